"""Translation: a text in, its translation out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.adaptation.lora import merged_lora
from keras_bert_zoo.config import is_integer
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.parallel import ParallelRows, parallel_batch_maker, parallel_batches
from keras_bert_zoo.data.pipeline import TokenRows, bucketed_batches
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
from keras_bert_zoo.presets.io import find_preset, load_tokenizer
from keras_bert_zoo.tasks.inputs import as_examples
from keras_bert_zoo.tasks.rows import packed_rows
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.tasks.translation.files import (
    MOST_BEAMS,
    copy_decoder,
    load_or_start,
    save_translator,
)
from keras_bert_zoo.text.spacing import natural_spacing
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.token_loss import SmoothedTokenLoss

# Beyond these, scores of long translations leave the range of the search.
_PENALTIES = (-2.0, 10.0)


class Translator(Task):
    """Translates texts, or writes them anew in any other way that pairs of texts show.

    An encoder reads the text; a Transformer decoder, started from a BERT, writes the translation
    with attention over what was read, token by token. The search for a probable translation, greedy
    or by beams, runs in the graph, and keys and values of earlier tokens are kept.

    `predict` and the exported model answer with `translation` (texts,) str and `score` (texts,)
    float32, the log-probability of its tokens over the length penalty.

    Calling the model maps the encoder's inputs, `target_ids` and `target_mask` int32 (B, T), the
    translation so far, to float32 logits (B, T, V) of the tokens that follow.

    Args:
        encoder: Encoder, of any family, whose pooler is not used.
        tokenizer: Tokenizer of the texts.
        decoder: TransformerDecoder.
        target_tokenizer: Tokenizer of the translations.
        max_length: int, tokens. Longer texts are truncated; default 128.
        max_target_length: int, tokens. A translation ends there; longer ones are truncated in
            training. Default 128, or the decoder's positions if they are fewer.
        num_beams: int. 1: greedy search.
        length_penalty: float. See `heads.beam_search`.
        label_smoothing: float in [0, 1). See `SmoothedTokenLoss`.
        token_layout: "packed" or "padded", of the encoder.

    Raises:
        ConfigError: an option out of its range, or a vocabulary that does not fit.

    Attributes:
        num_beams, length_penalty, max_target_length: may be set; they are saved.
        bleu_tokenizer: str or None. How `report` has sacreBLEU cut texts into words; None: by the
            script of the references, see `metrics.bleu.bleu_tokenizer`.

    Source: arXiv 1907.12461.
    """

    task_name: ClassVar[str] = "translation"
    head_kind: ClassVar[str] = ""
    takes_datasets: ClassVar[bool] = False
    can_probe: ClassVar[bool] = False

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
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        config = decoder.config
        if decoder.memory_dim != encoder.config.hidden_dim:
            raise ConfigError(
                f"The decoder reads states of width {decoder.memory_dim}, the encoder's have "
                f"{encoder.config.hidden_dim}."
            )
        if target_tokenizer.vocabulary_size > config.vocabulary_size:
            raise ConfigError(
                f"The target tokenizer has {target_tokenizer.vocabulary_size} tokens, the "
                f"decoder's table only {config.vocabulary_size} rows."
            )
        if max_target_length is None:
            max_target_length = min(128, config.max_tokens)
        if not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing < 1:
            raise ConfigError(f"`label_smoothing` must be in [0, 1), got {label_smoothing!r}.")
        super().__init__(
            encoder,
            tokenizer,
            decoder,
            max_length=max_length,
            token_layout=token_layout,
            **kwargs,
        )
        self.target_tokenizer = target_tokenizer
        self.label_smoothing = float(label_smoothing)
        self.num_beams = num_beams
        self.length_penalty = length_penalty
        self.max_target_length = max_target_length
        self.bleu_tokenizer: str | None = None
        self.check_search()

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        target: str | os.PathLike[str] | Tokenizer | None = None,
        target_texts: Sequence[str] | None = None,
        new_decoder: bool | None = None,
        decoder_layers: int | None = None,
        decoder_dropout: float | None = None,
        max_length: int | None = None,
        max_target_length: int | None = None,
        num_beams: int | None = None,
        length_penalty: float | None = None,
        label_smoothing: float | None = None,
        token_layout: str = "packed",
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
    ) -> Self:
        """Builds the task on a preset, or loads a saved one.

        Args:
            preset: catalogued name or Hugging Face directory: of an encoder; or of a whole
                translator, that is, of transformers' EncoderDecoderModel.
            target: for a new decoder: what it starts from, a preset of the family "bert"; or the
                Tokenizer of the translations, or a directory with nothing but one, for a decoder
                that starts from the encoder's own blocks. None: the encoder's blocks and tokenizer.
            target_texts: list of str, the translations to train on, for a new decoder: tokens that
                none of them takes are left out of a WordPiece vocabulary, which makes training and
                search faster. None: all tokens are kept.
            new_decoder: bool. None: unless the preset has one.
            decoder_layers: int. Blocks of a new decoder, taken evenly from those it starts from;
                None: all.
            decoder_dropout: float in [0, 1). Of a new decoder; None: as what it starts from.
            max_length: int, tokens. None: as saved; 128 for a new decoder.
            max_target_length: int, tokens. None: likewise.
            num_beams: int. None: as saved; 4 for a new decoder.
            length_penalty: float. None: as saved; 1.0 for a new decoder.
            label_smoothing: float. None: as saved; 0.1 for a new decoder.
            token_layout: "packed" or "padded".
            dtype: Keras dtype policy, "mixed_bfloat16" for one.
            allow_pickle: bool. Whether a pytorch_model.bin may be fetched and read.
            ignore_config_keys: config.json keys to leave unread although they are unknown.

        Returns:
            Translator.

        Raises:
            ConfigError: an option or a config that is not supported.
            CheckpointError: a preset is not there, does not fit, or has no decoder to load.
        """
        directory = find_preset(preset, allow_pickle=allow_pickle)
        tokenizer = load_tokenizer(directory)
        options: dict[str, Any] = {
            "allow_pickle": allow_pickle,
            "ignore_config_keys": ignore_config_keys,
            "dtype": dtype,
        }
        start = {
            "target": target,
            "target_texts": target_texts,
            "num_layers": decoder_layers,
            "dropout": decoder_dropout,
        }
        encoder, decoder, target_tokenizer, side = load_or_start(
            directory, tokenizer, new_decoder=new_decoder, start=start, **options
        )
        given = {
            "max_length": max_length,
            "max_target_length": max_target_length,
            "num_beams": num_beams,
            "length_penalty": length_penalty,
            "label_smoothing": label_smoothing,
        }
        saved = {name: side[name] for name in given if name in side}
        if is_integer(saved.get("max_target_length")):
            longest = decoder.config.max_tokens
            saved["max_target_length"] = min(saved["max_target_length"], longest)
        task = cls(
            encoder,
            tokenizer,
            decoder,
            target_tokenizer,
            token_layout=token_layout,
            **saved | {name: value for name, value in given.items() if value is not None},
        )
        task._restore(side)
        return task

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Writes a Hugging Face directory, which transformers and `load` read.

        An EncoderDecoderModel: config.json, generation_config.json, model.safetensors (float32),
        the tokenizer of the texts, that of the translations in the folder target_tokenizer, and
        `keras_bert_zoo.json`. Written aside and renamed: an earlier save stays whole until the new
        one is.

        Args:
            directory: path; missing, empty, or an earlier save.
            overwrite: bool. Whether to replace an earlier save.

        Raises:
            CheckpointError: it cannot be written, or is there and not to be replaced.
            ConfigError: an attribute was set to what is not possible.
        """
        self.check_search()
        with merged_lora(self.encoder):
            save_translator(
                directory,
                self.encoder,
                self.head,
                self.tokenizer,
                self.target_tokenizer,
                generation=self._search_options(),
                side=self._side_config(),
                overwrite=overwrite,
            )

    def _side_config(self) -> dict[str, Any]:
        side = super()._side_config() | self._search_options()
        return side | {"label_smoothing": self.label_smoothing}

    def _search_options(self) -> dict[str, Any]:
        return {
            "num_beams": self.num_beams,
            "length_penalty": self.length_penalty,
            "max_target_length": self.max_target_length,
        }

    def check_search(self) -> None:
        """Checks the attributes that say how translations are searched.

        Raises:
            ConfigError: a search that is not possible.
        """
        longest = self.head.config.max_tokens
        for name, value, most in (
            ("num_beams", self.num_beams, MOST_BEAMS),
            ("max_target_length", self.max_target_length, longest),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ConfigError(f"`{name}` must be between 1 and {most}, got {value!r}.")
        penalty, (least, most) = self.length_penalty, _PENALTIES
        if (
            isinstance(penalty, bool)
            or not isinstance(penalty, int | float)
            or not least <= penalty <= most  # nor NaN
        ):
            raise ConfigError(
                f"`length_penalty` must be a number from {least:g} to {most:g}, got {penalty!r}."
            )

    # === The graph ===

    @classmethod
    def model_inputs(cls) -> dict[str, keras.KerasTensor]:
        """What the model is called with: the encoder's inputs, and int32 (B, T) of translations."""
        target = {
            name: keras.Input(shape=(None,), dtype="int32", name=name)
            for name in ("target_ids", "target_mask")
        }
        return encoder_inputs() | target

    @classmethod
    def serving_inputs(cls) -> dict[str, keras.KerasTensor]:
        """The encoder's inputs: translations are written, not given."""
        return encoder_inputs()

    @classmethod
    def connect(
        cls,
        encoder: Encoder,
        head: Any,
        inputs: Mapping[str, Any],
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
    ) -> Any:
        """See `AnsweringModel.connect`; the outputs are float32 logits (B, T, V)."""
        states = _read(encoder, inputs, token_layout, attention_groups)
        return head(states, inputs["padding_mask"], inputs["target_ids"], inputs["target_mask"])

    def respond(self, inputs: Mapping[str, Any]) -> Any:
        """Searches translations; see `serve`."""
        return self.serve(
            self.encoder, self.head, inputs, token_layout=self.token_layout, attention_groups=1
        )

    def head_in(self, dtype: str) -> Any:
        """The decoder, or a copy that computes in another dtype; see `AnsweringModel.head_in`."""
        if self.head.compute_dtype == dtype:
            return self.head
        return copy_decoder(self.head, "mixed_bfloat16" if dtype == "bfloat16" else dtype)

    def serve(
        self,
        encoder: Encoder,
        head: Any,
        inputs: Mapping[str, Any],
        *,
        token_layout: str,
        attention_groups: int,
    ) -> dict[str, tf.Tensor]:
        """Searches translations, in TensorFlow ops.

        Args: as `AnsweringModel.serve`.

        Returns:
            dict: `ids` int32 (B, `max_target_length`), padded; `score` float32 (B,).
        """
        self.check_search()
        decoder, tokenizer = head, self.target_tokenizer
        states = _read(encoder, inputs, token_layout, attention_groups)
        memories = decoder.remember(states, inputs["padding_mask"])
        rows = tf.shape(inputs["token_ids"])[0]
        ids, score = beam_search(
            lambda token_ids, position, caches: decoder.step(token_ids, position, caches, memories),
            decoder.no_tokens(rows * self.num_beams),
            rows=rows,
            num_beams=self.num_beams,
            max_tokens=self.max_target_length,
            start_id=tokenizer.cls_token_id,
            end_id=tokenizer.sep_token_id,
            pad_id=tokenizer.pad_token_id,
            length_penalty=self.length_penalty,
        )
        return {"ids": ids, "score": score}

    def row_cost(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """See `AnsweringModel.row_cost`; the tokens of all beams are remembered, too."""
        return super().row_cost(inputs) + self.num_beams * self.max_target_length

    def answers(self, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Turns tokens into translations; see the class."""
        texts = self.target_tokenizer.detokenize(outputs["ids"], skip_special_tokens=True)
        if isinstance(self.target_tokenizer, WordPieceTokenizer):
            texts = natural_spacing(texts)
        return {"translation": texts, "score": outputs["score"]}

    def _graph_key(self) -> tuple[Any, ...]:
        return (*super()._graph_key(), *self._search_options().values())

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; one translation is as good as another of equal score."""
        difference = float(abs(float(expected["score"]) - float(got["score"])))
        scale = max(1.0, abs(float(expected["score"])))
        if expected["translation"] != got["translation"] and not difference / scale <= tolerance:
            return None
        return difference / scale

    # === Training and measuring ===

    def _text_columns(self, examples: Examples) -> tuple[Sequence[Any], ...]:
        return (examples.texts,)

    def _prepared(self, x: Any, y: Any) -> tuple[Examples, list[Any]]:
        examples = self._examples(x)
        if y is not None:
            if examples.text_pairs is not None:
                raise DataError("Expected texts and translations once: as pairs, or as x and y.")
            references = as_examples(y).texts
            examples = Examples(examples.texts, references, rows=examples.rows, path=examples.path)
        if not len(examples):
            raise DataError("There are no examples: expected at least one text.")
        if examples.text_pairs is None:
            raise DataError("There are no translations: expected pairs of texts, or `y`.")
        return examples, examples.text_pairs

    def _labelled_rows(  # type: ignore[override]
        self, examples: Examples, targets: list[Any], weights: np.ndarray | None = None
    ) -> ParallelRows:
        return ParallelRows(
            self.tokenize_rows(examples.texts), self._target_rows(targets), weights=weights
        )

    def _target_rows(self, texts: Sequence[Any]) -> TokenRows:
        # The last token is only told, never read: one more than the decoder has positions fits.
        return packed_rows(self.target_tokenizer, texts, max_length=self.max_target_length + 1)

    def _batches(  # type: ignore[override]
        self, data: ParallelRows, *, batch_size: int, **options: Any
    ) -> tf.data.Dataset:
        indices = bucketed_batches(data.lengths, batch_size=batch_size, **options)
        return parallel_batches(
            data,
            indices,
            pad_id=self.tokenizer.pad_token_id,
            target_pad_id=self.target_tokenizer.pad_token_id,
        )

    def _batch_of(  # type: ignore[override]
        self, data: ParallelRows, *, seed: int
    ) -> tuple[Any, ...]:
        make = parallel_batch_maker(
            data,
            pad_id=self.tokenizer.pad_token_id,
            target_pad_id=self.target_tokenizer.pad_token_id,
        )
        return make(tf.range(len(data), dtype=tf.int64))

    def _adopt(self, examples: Examples) -> None:
        """Nothing: translations are not asked for."""

    def _output_kind(self) -> Outputs:
        return Outputs("tokens", type(self).__name__, accuracy=MaskedAccuracy)

    def _default_loss(self) -> keras.losses.Loss:
        return SmoothedTokenLoss(self.label_smoothing)

    def _default_metrics(self) -> list[keras.metrics.Metric]:
        return [MaskedAccuracy()]

    def _monitor(self) -> tuple[str, str]:
        # Translations get better for long after the smoothed loss has stopped to fall.
        return "val_accuracy", "max"

    def predict_logits(self, x: Any, **kwargs: Any) -> np.ndarray:
        """Is not there: what a token's logits are depends on the tokens before it."""
        raise ConfigError("A Translator has no `predict_logits`; see `predict` and the model.")

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
        examples, _ = self._prepared(x, y)
        references = [
            text.decode("utf-8", "replace") if isinstance(text, bytes) else text
            for text in examples.text_pairs or []
        ]
        chosen = self.bleu_tokenizer or bleu_tokenizer(references)
        answers = self.predict(examples, batch_size=batch_size)
        return translation_report(answers["translation"].tolist(), references, tokenize=chosen)


def _read(
    encoder: Encoder, inputs: Mapping[str, Any], token_layout: str, attention_groups: int
) -> Any:
    """The encoder's states of a batch: float (B, S, H)."""
    states, layout = encoder.token_states(
        {name: inputs[name] for name in INPUT_NAMES},
        token_layout=token_layout,
        attention_groups=attention_groups,
    )
    return TokensToBatch(dtype=encoder.embeddings.dtype_policy)(states, layout)
