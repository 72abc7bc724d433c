"""Predicts masked tokens, and computes how probable a text is."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.inputs import as_str, single_texts
from keras_bert_zoo.data.masking import Masking, masked_columns
from keras_bert_zoo.data.pipeline import NO_LABEL, LabelledRows, length_order
from keras_bert_zoo.encoders.encoder import Encoder, encoder_inputs
from keras_bert_zoo.encoders.parts import layout_inputs
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.heads.masked_lm import MaskedLMHead
from keras_bert_zoo.litert_scope import is_for_litert
from keras_bert_zoo.metrics.language_model import MaskedAccuracy, MaskedLMReport, token_scores
from keras_bert_zoo.tasks.loading import TaskSource
from keras_bert_zoo.tasks.options import LoadOptions, MaskedLMOptions, TaskOption
from keras_bert_zoo.tasks.predicting import Answers, largest_difference
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.tasks.trainable import TrainableTask
from keras_bert_zoo.text.filling import fill_masks, token_texts
from keras_bert_zoo.text.token_offsets import offsets_of_columns
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.words import begins_word, word_flags
from keras_bert_zoo.training.arguments import check_arguments
from keras_bert_zoo.training.data import prepared
from keras_bert_zoo.training.masked_rows import maskable_rows, pseudo_perplexities
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.rows import MaskedBatches, packed_rows
from keras_bert_zoo.validation import check_integer


def _logits_cost(task: Any, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """A thousand logits use about as much memory as a token."""
    masks = tf.shape(inputs["mask_positions"])[1]
    return masks * (task.encoder.config.vocabulary_size // 1000)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class MaskedLM(TrainableTask):
    """Predicts masked tokens of a text.

    A text may contain any number of masks, the tokenizer's `mask_token`. `predict` and the exported
    model answer, with M the largest number of masks in a text, from left to right, and K = `top_k`:

    - `token` (texts, M, K) str, most probable first, as transformers' `token_str`; `score`
      (texts, M, K) float32, their probabilities; `token_id` (texts, M, K) int32;
    - `start`, `end` (texts, M) int32: `text_bytes[start:end]` is the mask, in UTF-8 or in the
      caller's bytes;
    - `filled` (texts, K) str, the text with every mask replaced by its k-th token, without the
      sign that a word continues or begins; all other bytes are the caller's.

    Texts with fewer masks have empty strings and zeros. Each mask is predicted with the others in
    place. Texts are truncated to `max_length` tokens: later masks are not answered, and stay in
    `filled`. The signature on token ids takes `mask_positions` int32 (B, M), columns of the batch,
    and answers with `token`, `score` and `token_id`.

    `fit` takes a list of str or `Examples`, without labels. It masks other words in every epoch;
    see `data.masking`. Texts longer than `max_length` become several rows; texts without a token
    are left out. `evaluate` and `report` always mask the same words.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer with a mask token.
        head: MaskedLMHead.
        top_k: int. Tokens per mask in an answer.
        mask_rate: float in (0, 1). The share of words that training masks.
        whole_words: bool. Whether training masks all tokens of a word together.
        max_length: int, tokens; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: a tokenizer without a mask token, a `top_k` that is not between 1 and the size
            of the vocabulary, or a `mask_rate` outside (0, 1).

    Source: arXiv 1810.04805, section 3.1; transformers' BertForMaskedLM and fill-mask pipeline.
    """

    spec = TaskSpec(
        name="masked-lm",
        head="masked_lm",
        options=MaskedLMOptions,
        inputs=lambda: (
            encoder_inputs()
            | {"mask_positions": keras.Input(shape=(None,), dtype="int32", name="mask_positions")}
        ),
        extra_cost=_logits_cost,
    )
    top_k: TaskOption[int] = TaskOption()

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        *,
        head: MaskedLMHead | None = None,
        top_k: int = 5,
        mask_rate: float = 0.15,
        whole_words: bool = False,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        if tokenizer.mask_token is None or tokenizer.mask_token_id is None:
            raise ConfigError("A MaskedLM needs a tokenizer with a mask token. This one has none.")
        check_integer("top_k", top_k, minimum=1, maximum=tokenizer.vocabulary_size)
        masking = Masking(rate=mask_rate, whole_words=bool(whole_words))
        super().__init__(
            encoder,
            tokenizer,
            head or make_head(self.spec.head, encoder),
            options=MaskedLMOptions(
                max_length=max_length,
                top_k=top_k,
                mask_rate=masking.rate,
                whole_words=masking.whole_words,
            ),
            **kwargs,
        )
        self._mask_id = tokenizer.mask_token_id
        flags = {token.content: token for token in tokenizer.added_tokens}[tokenizer.mask_token]
        # With `rstrip` the mask includes the space after it, and its own bytes are unknown.
        self._mask_bytes = 0 if flags.rstrip else len(tokenizer.mask_token.encode())

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        new_head: bool = False,
        top_k: int | None = None,
        mask_rate: float | None = None,
        whole_words: bool | None = None,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Builds the task on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            new_head: bool. Whether the head starts from fresh weights.
            top_k: int. None: as saved, otherwise 5.
            mask_rate: float. None: as saved, otherwise 0.15.
            whole_words: bool. None: as saved, otherwise False.
            **options: see `LoadOptions`.

        Returns:
            MaskedLM.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is missing, does not fit, or has no head to load.
        """
        parts = TaskSource(cls, preset, **options).load(new_head=new_head)
        return parts.build(
            cls, head=parts.head, top_k=top_k, mask_rate=mask_rate, whole_words=whole_words
        )

    @property
    def masking(self) -> Masking:
        """How training masks words."""
        return Masking(rate=self.options.mask_rate, whole_words=self.options.whole_words)

    # === The graph ===

    @classmethod
    def connect(cls, encoder: Encoder, head: Any, inputs: Mapping[str, Any], **layout: Any) -> Any:
        """See `Task.connect`; float32 logits (B, P, V) of the masked positions."""
        tokens = layout_inputs(inputs)
        states, token_layout = encoder.token_states(tokens, **layout)
        return head(states, token_layout, inputs["mask_positions"])

    def encode_texts(
        self, *texts: tf.Tensor, options: Any = None
    ) -> tuple[dict[str, tf.Tensor], Context]:
        """Tokenizes texts and finds their masks; see the base class."""
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(texts[0])
        inputs = self.tokenizer.pack(ids, max_length=self.max_length)
        masks = (inputs["token_ids"] == self._mask_id) & (inputs["padding_mask"] != 0)
        positions, exists = masked_columns(masks)
        start, end = (offsets_of_columns(offsets, positions, exists) for offsets in (starts, ends))
        if self._mask_bytes:  # without the space that a mask may include before it
            start = tf.where(exists, tf.maximum(start, end - self._mask_bytes), 0)
        context = {"text": texts[0], "exists": exists, "start": start, "end": end}
        return inputs | {"mask_positions": positions}, context

    def serve(self, *args: Any, options: Any, **kwargs: Any) -> dict[str, tf.Tensor]:
        """Computes `score` and `token_id` of the most probable tokens, (B, P, K).

        The logits of all tokens at all masks of a large batch need too much memory.
        """
        logits = super().serve(*args, options=options, **kwargs)
        best, token_ids = tf.math.top_k(logits, k=options.top_k)
        score = tf.exp(best - tf.reduce_logsumexp(logits, axis=-1, keepdims=True))
        return {"score": score, "token_id": token_ids}

    def decode(
        self, outputs: dict[str, tf.Tensor], context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Adds the tokens' texts and, with the texts, the offsets of masks and `filled`."""
        texts, replacements = self._token_texts
        token_id = outputs["token_id"]
        if context is None:
            return {"token": tf.gather(tf.constant(texts, tf.string), token_id), **outputs}
        exists = tf.expand_dims(context["exists"], 2)
        # Where there is no mask, an empty text: LiteRT selects no strings, but gathers them.
        at = tf.where(exists, token_id, len(texts))
        start, end = context["start"], context["end"]
        answers = {
            "token": tf.gather(tf.constant([*texts, b""], tf.string), at),
            "score": tf.where(exists, outputs["score"], 0.0),
            "token_id": tf.where(exists, token_id, 0),
            "start": start,
            "end": end,
        }
        if not is_for_litert():  # it joins no strings
            tokens = tf.gather(tf.constant([*replacements, b""], tf.string), at)
            answers["filled"] = fill_masks(context["text"], start, end, context["exists"], tokens)
        return answers

    @functools.cached_property
    def _token_texts(self) -> tuple[np.ndarray, np.ndarray]:
        return token_texts(self.tokenizer, self.encoder.config.vocabulary_size)

    def answer_difference(self, expected: Answers, got: Answers, tolerance: float) -> float | None:
        """Compares two answers; tokens of almost equal probability may swap."""
        ids, other_ids, scores = expected["token_id"], got["token_id"], expected["score"]
        for mask, place in np.argwhere(ids != other_ids):
            same = np.flatnonzero(ids[mask] == other_ids[mask, place])
            # A token that is not in the expected answer may have had the score of the last one.
            other = scores[mask, same[0] if len(same) else -1]
            if abs(float(scores[mask, place]) - float(other)) > 2 * tolerance:
                return None
        if np.array_equal(ids, other_ids):
            names = {"token", "filled", "start", "end"} & set(expected)
            if not all(np.array_equal(expected[name], got[name]) for name in names):
                return None
        return largest_difference(scores, got["score"])

    # === Training and measuring ===

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> Examples:
        """Takes single texts."""
        return single_texts(x)

    def targets(self, examples: Examples, y: Any = None) -> None:
        """Nothing: the masked tokens are the labels."""
        if y is not None:
            raise DataError("A MaskedLM learns from texts alone: leave the labels out.")

    def rows(self, examples: Examples, targets: Any, weights: Any = None) -> MaskedBatches:
        """Rows of at most `max_length` tokens, whose words are masked batch by batch."""
        return self._batches(self._labelled_rows(examples)[0])

    def _labelled_rows(self, examples: Examples) -> tuple[LabelledRows, np.ndarray]:
        """The rows, and int64 (rows,), the index of each row's text; see `maskable_rows`."""
        begins = None
        if self.masking.whole_words:
            begins = functools.partial(begins_word, tf.constant(word_flags(self.tokenizer)))
        return maskable_rows(
            self.tokenizer, examples.texts, max_length=self.max_length, begins_word=begins
        )

    def _batches(self, data: LabelledRows) -> MaskedBatches:
        return MaskedBatches(
            data,
            self.tokenizer.pad_token_id,
            masking=self.masking,
            mask_id=self._mask_id,
            vocabulary_size=self.tokenizer.vocabulary_size,
        )

    def objective(self, examples: Any = None) -> Objective:
        """The cross-entropy of masked tokens."""
        return Objective(
            outputs=Outputs("tokens", type(self).__name__, accuracy=MaskedAccuracy),
            loss=lambda: keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, ignore_class=NO_LABEL
            ),
            metrics=lambda: [MaskedAccuracy()],
            takes_weights=False,
        )

    def report(self, x: Any, y: Any = None, *, batch_size: int = 64) -> MaskedLMReport:
        """Loss, perplexity and accuracy at masked words.

        The masked words depend only on the texts, `mask_rate` and `whole_words`. So two models with
        the same tokenizer are measured on the same words.

        Args:
            x: as in `fit`.
            y: None.
            batch_size: int.

        Returns:
            MaskedLMReport.

        Raises:
            DataError: `x` does not contain texts, or there is nothing to mask.
        """
        examples, targets = prepared(self, x, y)
        nats, right, tokens = 0.0, 0, 0
        for _, labels, log_p, best, _ in self._scored(self.rows(examples, targets), batch_size):
            nats -= float(log_p.astype(np.float64).sum())
            right += int((best == labels).sum())  # `NO_LABEL` is not a token
            tokens += int((labels != NO_LABEL).sum())
        return MaskedLMReport.of(nats, right, tokens, len(examples))

    def mistakes(self, x: Any, *, batch_size: int = 64) -> list[dict[str, Any]]:
        """Lists the wrong predictions of the tokens that `report` masks.

        Args:
            x: as in `fit`.
            batch_size: int.

        Returns:
            a dict per mistake, most probable first: `index` of the text, `text` as the model saw
            it, `token` and `predicted` as texts, and `score` float32, the probability of
            `predicted`.

        Raises:
            DataError: as `report`.
        """
        examples, _ = prepared(self, x)
        data, documents = self._labelled_rows(examples)
        documents = documents[length_order(data.lengths)]
        texts = [as_str(text) for text in self._token_texts[0]]
        mistakes, begin = [], 0
        for inputs, labels, _, best, score in self._scored(self._batches(data), batch_size):
            masked = self.tokenizer.detokenize(
                tf.ragged.boolean_mask(inputs["token_ids"], inputs["padding_mask"] == 1)
            ).numpy()
            for row, place in np.argwhere((labels != NO_LABEL) & (labels != best)):
                mistake = {
                    "index": int(documents[begin + row]),
                    "text": as_str(masked[row]),
                    "token": texts[labels[row, place]],
                    "predicted": texts[best[row, place]],
                    "score": score[row, place],
                }
                mistakes.append(mistake)
            begin += len(labels)
        return sorted(mistakes, key=lambda mistake: -mistake["score"])

    def pseudo_perplexity(self, x: Any, *, batch_size: int = 64) -> dict[str, np.ndarray]:
        """Computes how probable texts are: each token is masked in turn and predicted.

        Special tokens are not counted; texts are truncated to `max_length` tokens. The
        pseudo-perplexity of a corpus is `exp(-sum(pseudo_log_likelihood) / sum(tokens))`.

        Args:
            x: list of str, or Examples.
            batch_size: int. Rows per batch; a text of n tokens needs n rows.

        Returns:
            dict of arrays (texts,): `pseudo_log_likelihood` float32, the sum of ln p of the
            tokens, in nats; `tokens` int32; `pseudo_perplexity` float32, exp of the mean of -ln p,
            1 for a text without tokens.

        Raises:
            DataError: `x` does not contain texts.

        Source: Salazar et al. 2020, arXiv 1910.14659.
        """
        check_arguments(batch_size=batch_size)
        examples = self.examples(x, labelled=False)
        rows = packed_rows(self.tokenizer, examples.texts, max_length=self.max_length)
        return pseudo_perplexities(
            rows,
            lambda inputs, tokens: self._token_scores(inputs, tokens)[0],
            mask_id=self._mask_id,
            pad_id=self.tokenizer.pad_token_id,
            batch_size=batch_size,
        )

    def _scored(self, rows: MaskedBatches, batch_size: int) -> Iterator[tuple[Any, ...]]:
        """Yields the inputs of batches, and as arrays their labels and `token_scores`."""
        for inputs, labels in rows.batches(batch_size=batch_size, shuffle=False):
            log_p, (best, score) = self._token_scores(inputs, labels)
            yield inputs, *(part.numpy() for part in (labels, log_p, best, score))

    def _token_scores(self, inputs: dict[str, tf.Tensor], tokens: tf.Tensor) -> Any:
        """Computes `token_scores`, in a graph that is traced again if the weights are replaced."""
        key = ("token_scores", *(id(variable) for variable in self.weights))
        if key not in self.graphs:

            def scores(inputs: dict[str, tf.Tensor], tokens: tf.Tensor) -> Any:
                return token_scores(self(inputs, training=False), tokens)

            self.graphs[key] = tf.function(scores, reduce_retracing=True, autograph=False)
        return self.graphs[key](inputs, tokens)
