"""Translation of texts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.inputs import as_examples, as_str
from keras_bert_zoo.data.parallel import ParallelRows
from keras_bert_zoo.encoders.encoder import INPUT_NAMES, Encoder, encoder_inputs
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.beam_search import beam_search
from keras_bert_zoo.heads.decoder import TransformerDecoder
from keras_bert_zoo.layers.token_layout import TokensToBatch
from keras_bert_zoo.metrics.bleu import (
    TranslationReport,
    bleu_tokenizer,
    check_bleu,
    translation_report,
)
from keras_bert_zoo.metrics.language_model import MaskedAccuracy
from keras_bert_zoo.presets.encoder_decoder import MOST_BEAMS, load_or_start, save_translator
from keras_bert_zoo.tasks.loading import LoadedParts, TaskSource
from keras_bert_zoo.tasks.options import LoadOptions, TaskOption, TranslationOptions
from keras_bert_zoo.tasks.predicting import Answers, largest_difference
from keras_bert_zoo.tasks.saving import SavedParts
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.tasks.trainable import TrainableTask
from keras_bert_zoo.text.spacing import natural_spacing
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer
from keras_bert_zoo.training.data import prepared
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.rows import ParallelBatches, packed_rows
from keras_bert_zoo.training.token_loss import SmoothedTokenLoss
from keras_bert_zoo.validation import check_integer, check_number, is_integer, is_number

# Beyond these, scores of long translations leave the range of the search.
_PENALTIES = (-2, 10)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class Translator(TrainableTask):
    """Translates texts, or rewrites them as pairs of texts show.

    An encoder reads the text. A Transformer decoder, started from a BERT, writes the translation
    token by token, with attention to the encoder's states. The search for a probable translation,
    greedy or with beams, runs in the graph and caches keys and values of earlier tokens.

    `predict` and the exported model answer with `translation` (texts,) str and `score` (texts,)
    float32, the log-probability of its tokens divided by the length penalty.

    Calling the model maps the encoder's inputs and the translation so far, `target_ids` and
    `target_mask` int32 (B, T), to float32 logits (B, T, V) of the next tokens.

    Args:
        encoder: Encoder, of any family, whose pooler is not used.
        tokenizer: Tokenizer of the texts.
        decoder: TransformerDecoder.
        target_tokenizer: Tokenizer of the translations.
        max_length: int, tokens. Longer texts are truncated; default 128.
        max_target_length: int, tokens. The longest translation; training truncates longer ones.
            Default 128, or the decoder's positions if they are fewer.
        num_beams: int. 1: greedy search.
        length_penalty: float. See `heads.beam_search`.
        label_smoothing: float in [0, 1). See `SmoothedTokenLoss`.
        token_layout: "packed" or "padded", of the encoder.

    Raises:
        ConfigError: an option out of its range, or a vocabulary that does not fit.

    Attributes:
        num_beams, length_penalty, max_target_length: can be set; they are saved.
        bleu_tokenizer: str or None. The tokenizer of sacreBLEU in `report`; None: depends on the
            script of the references, see `metrics.bleu.bleu_tokenizer`.

    Source: arXiv 1907.12461.
    """

    spec = TaskSpec(
        name="translation",
        head_hint="new_decoder=True",
        options=TranslationOptions,
        arguments=("target_tokenizer",),
        head_argument="decoder",
        inputs=lambda: (
            encoder_inputs()
            | {
                name: keras.Input(shape=(None,), dtype="int32", name=name)
                for name in ("target_ids", "target_mask")
            }
        ),
        training_inputs=("target_ids", "target_mask"),
        # The beams' caches, in tokens.
        extra_cost=lambda task, inputs: task.num_beams * task.max_target_length,
    )
    num_beams: TaskOption[int] = TaskOption()
    length_penalty: TaskOption[float] = TaskOption()
    max_target_length: TaskOption[int] = TaskOption()
    label_smoothing: TaskOption[float] = TaskOption()

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        decoder: TransformerDecoder,
        target_tokenizer: Tokenizer,
        *,
        max_length: int | None = None,
        max_target_length: int | None = None,
        num_beams: int = 4,
        length_penalty: float = 1.0,
        label_smoothing: float = 0.1,
        **kwargs: Any,
    ) -> None:
        config = decoder.config
        if decoder.memory_dim != encoder.config.hidden_dim:
            raise ConfigError(
                f"Expected an encoder of the width that the decoder reads, {decoder.memory_dim}, "
                f"received {encoder.config.hidden_dim}."
            )
        if target_tokenizer.vocabulary_size > config.vocabulary_size:
            raise ConfigError(
                f"Expected a target tokenizer of at most {config.vocabulary_size} tokens, the rows "
                f"of the decoder's table, received {target_tokenizer.vocabulary_size}."
            )
        if max_target_length is None:
            max_target_length = min(128, config.max_tokens)
        if not is_number(label_smoothing) or not 0 <= label_smoothing < 1:
            raise ConfigError(
                "Expected `label_smoothing` to be a number of at least 0 and below 1, received "
                f"{label_smoothing!r}."
            )
        options = TranslationOptions(
            max_length=max_length,
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_target_length=max_target_length,
            label_smoothing=float(label_smoothing),
        )
        super().__init__(encoder, tokenizer, decoder, options=options, **kwargs)
        self.target_tokenizer = target_tokenizer
        self.bleu_tokenizer: str | None = None
        self.check_search()

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        target: str | os.PathLike[str] | Tokenizer | None = None,
        target_texts: Sequence[str] | None = None,
        new_decoder: bool | None = None,
        decoder_layers: int | None = None,
        decoder_dropout: float | None = None,
        max_target_length: int | None = None,
        num_beams: int | None = None,
        length_penalty: float | None = None,
        label_smoothing: float | None = None,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Builds the task on a preset, or loads a saved one.

        Args:
            preset: catalogued name or Hugging Face directory, of an encoder or of a translator
                (transformers' EncoderDecoderModel).
            target: the start of a new decoder: a preset of the family "bert"; or a Tokenizer of the
                translations, or a directory that contains only a tokenizer, for a decoder that
                starts from the encoder's blocks. None: the encoder's blocks and tokenizer.
            target_texts: list of str, the translations to train on, for a new decoder. A WordPiece
                vocabulary then has only their tokens, which makes training and search faster. None:
                all tokens.
            new_decoder: bool. None: only if the preset has no decoder.
            decoder_layers: int. Blocks of a new decoder, evenly spaced in its source; None: all.
            decoder_dropout: float in [0, 1), of a new decoder; None: as in its source.
            max_target_length: int, tokens. None: as saved; 128 for a new decoder.
            num_beams: int. None: as saved; 4 for a new decoder.
            length_penalty: float. None: as saved; 1.0 for a new decoder.
            label_smoothing: float. None: as saved; 0.1 for a new decoder.
            **options: see `LoadOptions`.

        Returns:
            Translator.

        Raises:
            ConfigError: an option or a config that is not supported.
            CheckpointError: a preset is missing, does not fit, or has no decoder to load.
        """
        source = TaskSource(cls, preset, **options)
        encoder, decoder, target_tokenizer, side = load_or_start(
            source.checkpoint,
            new_decoder=new_decoder,
            start={
                "target": target,
                "target_texts": target_texts,
                "num_layers": decoder_layers,
                "dropout": decoder_dropout,
            },
            side=source.side,
            dtype=source.dtype,
        )
        if is_integer(side.get("max_target_length")):
            side["max_target_length"] = min(side["max_target_length"], decoder.config.max_tokens)
        return LoadedParts(source, encoder, source.checkpoint.tokenizer, decoder, side).build(
            cls,
            decoder,
            target_tokenizer,
            max_target_length=max_target_length,
            num_beams=num_beams,
            length_penalty=length_penalty,
            label_smoothing=label_smoothing,
        )

    def saved_parts(self) -> SavedParts:
        """A directory in the format of transformers' EncoderDecoderModel.

        It contains config.json, generation_config.json, model.safetensors (float32), the tokenizer
        of the texts, that of the translations in the folder target_tokenizer, and the side file.
        """
        self.check_search()
        return SavedParts(
            save=lambda directory, side, overwrite: save_translator(
                directory,
                self.encoder,
                self.head,
                self.tokenizer,
                self.target_tokenizer,
                generation=self.options.to_side(),
                side=side,
                overwrite=overwrite,
            )
        )

    def check_search(self) -> None:
        """Checks the options of the search for translations.

        Raises:
            ConfigError: an option is out of its range.
        """
        longest, (least, most) = self.head.config.max_tokens, _PENALTIES
        check_integer("num_beams", self.num_beams, minimum=1, maximum=MOST_BEAMS)
        check_integer("max_target_length", self.max_target_length, minimum=1, maximum=longest)
        check_number("length_penalty", self.length_penalty, minimum=least, maximum=most)

    # === The graph ===

    @classmethod
    def connect(cls, encoder: Encoder, head: Any, inputs: Mapping[str, Any], **layout: Any) -> Any:
        """See `Task.connect`; the outputs are float32 logits (B, T, V)."""
        states = _encoder_states(encoder, inputs, **layout)
        return head(states, inputs["padding_mask"], inputs["target_ids"], inputs["target_mask"])

    def serve(
        self, encoder: Encoder, head: Any, inputs: Mapping[str, Any], *, options: Any, **layout: Any
    ) -> dict[str, tf.Tensor]:
        """Searches translations, in TensorFlow ops; see `Task.serve`.

        Returns:
            dict: `ids` int32 (B, `max_target_length`), padded; `score` float32 (B,).
        """
        self.check_search()
        tokenizer, rows = self.target_tokenizer, tf.shape(inputs["token_ids"])[0]
        states = _encoder_states(encoder, inputs, **layout)
        memories = head.remember(states, inputs["padding_mask"])
        ids, score = beam_search(
            lambda token_ids, position, caches: head.step(token_ids, position, caches, memories),
            head.no_tokens(rows * self.num_beams),
            rows=rows,
            num_beams=self.num_beams,
            max_tokens=self.max_target_length,
            start_id=tokenizer.cls_token_id,
            end_id=tokenizer.sep_token_id,
            pad_id=tokenizer.pad_token_id,
            length_penalty=self.length_penalty,
        )
        return {"ids": ids, "score": score}

    def decode(
        self, outputs: dict[str, tf.Tensor], context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Converts tokens to translations; see the class."""
        texts = self.target_tokenizer.detokenize(outputs["ids"], skip_special_tokens=True)
        if isinstance(self.target_tokenizer, WordPieceTokenizer):
            texts = natural_spacing(texts)
        return {"translation": texts, "score": outputs["score"]}

    def answer_difference(self, expected: Answers, got: Answers, tolerance: float) -> float | None:
        """Compares two answers; translations of almost equal score may differ."""
        difference = largest_difference(expected["score"], got["score"])
        same = expected["translation"] == got["translation"]
        return difference if same or difference <= tolerance else None

    # === Training and measuring ===

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> Examples:
        """Takes texts with their translations: pairs, or texts and `y`."""
        examples = as_examples(x)
        if not labelled:
            return dataclasses.replace(examples, text_pairs=None, labels=None)
        if y is not None:
            if examples.text_pairs is not None:
                raise DataError("Expected pairs in `x`, or translations in `y`; received both.")
            translations = as_examples(y).texts
            examples = dataclasses.replace(examples, text_pairs=translations, labels=None)
        return examples

    def targets(self, examples: Examples, y: Any = None) -> list[Any]:
        """The translations."""
        if examples.text_pairs is None:
            raise DataError("There are no translations: pass pairs of texts, or `y`.")
        return examples.text_pairs

    def rows(
        self, examples: Examples, targets: list[Any], weights: np.ndarray | None = None
    ) -> ParallelBatches:
        """One row per text, and one per translation."""
        source = packed_rows(self.tokenizer, examples.texts, max_length=self.max_length)
        # The decoder does not read the last token, a label. So one more than its positions fits.
        target = packed_rows(self.target_tokenizer, targets, max_length=self.max_target_length + 1)
        return ParallelBatches(
            ParallelRows(source, target, weights=weights),
            self.tokenizer.pad_token_id,
            self.target_tokenizer.pad_token_id,
        )

    def objective(self, examples: Any = None) -> Objective:
        """The smoothed cross-entropy of tokens; the best epoch has the highest accuracy.

        Translations improve for long after the smoothed loss stops falling.
        """
        return Objective(
            outputs=Outputs("tokens", type(self).__name__, accuracy=MaskedAccuracy),
            loss=lambda: SmoothedTokenLoss(self.label_smoothing),
            metrics=lambda: [MaskedAccuracy()],
            monitor=("val_accuracy", "max"),
        )

    def report(self, x: Any, y: Any = None, *, batch_size: int = 64) -> TranslationReport:
        """Translates texts and scores the translations with sacreBLEU.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: int.

        Returns:
            TranslationReport.

        Raises:
            DataError: there are no texts or no translations.
            ConfigError: sacreBLEU is not installed, or an unknown `bleu_tokenizer`.
        """
        check_bleu(self.bleu_tokenizer)
        examples, _ = prepared(self, x, y)
        references = [as_str(text) for text in examples.text_pairs or []]
        tokenizer = self.bleu_tokenizer or bleu_tokenizer(references)
        answers = self.predict(examples, batch_size=batch_size)
        return translation_report(answers["translation"].tolist(), references, tokenize=tokenizer)


def _encoder_states(encoder: Encoder, inputs: Mapping[str, Any], **layout: Any) -> Any:
    """The encoder's states of a batch: float (B, S, H)."""
    tokens = {name: inputs[name] for name in INPUT_NAMES}
    states, token_layout = encoder.token_states(tokens, **layout)
    return TokensToBatch(dtype=encoder.embeddings.dtype_policy)(states, token_layout)
