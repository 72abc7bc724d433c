"""Fills masked words in, and says how probable a text is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.masking import Masking, masked_batch, masked_batches, masked_columns
from keras_bert_zoo.data.pipeline import NO_LABEL, LabelledRows, TokenRows, length_order
from keras_bert_zoo.encoders.encoder import INPUT_NAMES, Encoder, encoder_inputs
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.heads.masked_lm import MaskedLMHead
from keras_bert_zoo.metrics.language_model import MaskedAccuracy, MaskedLMReport, token_scores
from keras_bert_zoo.tasks.answering import Context, largest_difference
from keras_bert_zoo.tasks.inputs import as_examples
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.tasks.token_classification.entities import begins_word, word_flags
from keras_bert_zoo.text import ragged_ops
from keras_bert_zoo.text.offsets import cut
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.arguments import check_arguments
from keras_bert_zoo.training.outputs import Outputs

_TOKENIZED_AT_ONCE = 1024  # texts; bounds the memory that padding takes while tokenizing
_SPACES = " \t\n\u2581"  # the last is how SentencePiece writes one


class MaskedLM(Task):
    """Tells the words that stand behind masks in a text.

    A text may hold any number of masks, the tokenizer's `mask_token`. `predict` and the exported
    model answer, with M the most masks of a text, from left to right, and K = `top_k`:

    - `token` (texts, M, K) str, from the likeliest on, as transformers' `token_str`; `score`
      (texts, M, K) float32, their probabilities; `token_id` (texts, M, K) int32;
    - `start`, `end` (texts, M) int32: `text_bytes[start:end]` is the mask, in UTF-8 or in whatever
      bytes the caller sent;
    - `filled` (texts, K) str, the text with every mask replaced by its k-th token, without the
      sign of a word's continuation or beginning; all other bytes are the caller's.

    Where a text has fewer masks, there are empty strings and zeros. Each mask is told with the
    others in place. Texts are cut off behind `max_length` tokens: a mask beyond is not answered,
    and stays in `filled`. The signature on token ids takes `mask_positions` int32 (B, M), columns
    of the batch, and answers with `token`, `score` and `token_id`.

    `fit` takes a list of str or `Examples`, without labels: words are masked anew in every epoch,
    in TensorFlow ops; see `data.masking`. Texts longer than `max_length` become several rows, texts
    without a token none. `evaluate` and `report` mask the same words each time.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer with a mask token.
        head: MaskedLMHead.
        top_k: int. How many tokens are given for a mask.
        mask_rate: float in (0, 1). The share of words that training masks.
        whole_words: bool. Whether training masks all tokens of a word together.
        max_length: int, tokens; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: a tokenizer without a mask token, a `top_k` that is not from 1 to the size of
            the vocabulary, or a `mask_rate` outside (0, 1).

    Source: arXiv 1810.04805, section 3.1; transformers' BertForMaskedLM and fill-mask pipeline.
    """

    task_name: ClassVar[str] = "masked-lm"
    head_kind: ClassVar[str] = "masked_lm"
    takes_datasets: ClassVar[bool] = False
    can_probe: ClassVar[bool] = False

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
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        if tokenizer.mask_token is None or tokenizer.mask_token_id is None:
            raise ConfigError("A MaskedLM needs a tokenizer with a mask token, this one has none.")
        size = tokenizer.vocabulary_size
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= size:
            raise ConfigError(f"`top_k` must be from 1 to {size}, the tokens, got {top_k!r}.")
        masking = Masking(rate=mask_rate, whole_words=bool(whole_words))
        super().__init__(
            encoder,
            tokenizer,
            head or make_head(self.head_kind, encoder),
            max_length=max_length,
            token_layout=token_layout,
            **kwargs,
        )
        self.top_k = top_k
        self.masking = masking
        self._mask_id = tokenizer.mask_token_id
        flags = {token.content: token for token in tokenizer.added_tokens}[tokenizer.mask_token]
        # With `rstrip` the space behind is the mask's, too: its own bytes are then not known.
        self._mask_bytes = 0 if flags.rstrip else len(tokenizer.mask_token.encode())
        self._texts_of_tokens: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        new_head: bool = False,
        top_k: int | None = None,
        mask_rate: float | None = None,
        whole_words: bool | None = None,
        max_length: int | None = None,
        token_layout: str = "packed",
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
    ) -> Self:
        """Builds the task on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            new_head: bool. Whether the head starts from fresh weights; else it is the preset's.
            top_k: int. None: as saved, otherwise 5.
            mask_rate: float. None: as saved, otherwise 0.15.
            whole_words: bool. None: as saved, otherwise False.
            max_length: int, tokens. None: as saved with the head that is loaded, or what its model
                takes; 128 for a new one.
            token_layout: "packed" or "padded".
            dtype: Keras dtype policy of the encoder, "mixed_bfloat16" for one.
            allow_pickle: bool. Whether a pytorch_model.bin may be fetched and read.
            ignore_config_keys: config.json keys to leave unread although they are unknown.

        Returns:
            MaskedLM.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is not there, does not fit, or has no head to load.
        """
        encoder, tokenizer, head, side = cls._load_parts(
            preset,
            head_width=None,
            new_head=new_head,
            ignore_config_keys=ignore_config_keys,
            dtype=dtype,
            allow_pickle=allow_pickle,
        )
        given: dict[str, Any] = {
            "top_k": top_k,
            "mask_rate": mask_rate,
            "whole_words": whole_words,
        }
        task = cls(
            encoder,
            tokenizer,
            head=head,
            max_length=side.get("max_length") if max_length is None else max_length,
            token_layout=token_layout,
            **{
                name: side[name] if value is None else value
                for name, value in given.items()
                if value is not None or name in side
            },
        )
        task._restore(side)
        return task

    @classmethod
    def _head_hint(cls) -> str:
        return "new_head=True"

    def _task_config(self) -> dict[str, Any]:
        return {}

    def _side_config(self) -> dict[str, Any]:
        return super()._side_config() | {
            "top_k": self.top_k,
            "mask_rate": self.masking.rate,
            "whole_words": self.masking.whole_words,
        }

    def _graph_key(self) -> tuple[Any, ...]:
        return (*super()._graph_key(), self.top_k)

    # === The graph ===

    @classmethod
    def model_inputs(cls) -> dict[str, keras.KerasTensor]:
        """The encoder's inputs, and `mask_positions` int32 (B, P)."""
        positions = keras.Input(shape=(None,), dtype="int32", name="mask_positions")
        return encoder_inputs() | {"mask_positions": positions}

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
        """See `AnsweringModel.connect`; float32 logits (B, P, V), of the positions alone."""
        states, layout = encoder.token_states(
            {name: inputs[name] for name in INPUT_NAMES},
            token_layout=token_layout,
            attention_groups=attention_groups,
        )
        return head(states, layout, inputs["mask_positions"])

    def encode_texts(self, *texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], Context]:
        """Tokenizes texts and finds their masks; see the base class."""
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(texts[0])
        inputs = self.tokenizer.pack(ids, max_length=self.max_length)
        masks = (inputs["token_ids"] == self._mask_id) & (inputs["padding_mask"] != 0)
        positions, there = masked_columns(masks)

        def of_masks(offsets: tf.RaggedTensor) -> tf.Tensor:  # -> int32 (B, M)
            dense = offsets[:, : self.max_length].to_tensor()
            columns = tf.pad(dense, [[0, 0], [1, 0]])  # behind the token that opens every row
            return tf.where(there, tf.gather(columns, positions, batch_dims=1), 0)

        start, end = of_masks(starts), of_masks(ends)
        if self._mask_bytes:
            # A mask that takes the space before it with it is answered without.
            start = tf.where(there, tf.maximum(start, end - self._mask_bytes), 0)
        context = {"text": texts[0], "there": there, "start": start, "end": end}
        return inputs | {"mask_positions": positions}, context

    def respond(self, inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Computes `score` and `token_id` of the likeliest tokens, (B, P, K).

        The logits of all tokens at all masks of a large batch would not fit the memory.
        """
        return self._likeliest(super().respond(inputs))

    def serve(self, *args: Any, **kwargs: Any) -> dict[str, tf.Tensor]:
        """Connects the model for an export; computes what `respond` does."""
        return self._likeliest(super().serve(*args, **kwargs))

    def _likeliest(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        best, token_ids = tf.math.top_k(logits, k=self.top_k)
        score = tf.exp(best - tf.reduce_logsumexp(logits, axis=-1, keepdims=True))
        return {"score": score, "token_id": token_ids}

    def row_cost(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """See `AnsweringModel.row_cost`; a thousand logits cost about as much as a token."""
        masks = tf.shape(inputs["mask_positions"])[1]
        return super().row_cost(inputs) + masks * (self.encoder.config.vocabulary_size // 1000)

    def answers(self, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Adds the tokens' texts, `token`; see the class."""
        texts = tf.constant(self._token_texts()[0], tf.string)
        return {"token": tf.gather(texts, outputs["token_id"]), **outputs}

    def decode(self, outputs: dict[str, tf.Tensor], context: Context) -> dict[str, tf.Tensor]:
        """Adds where the masks stand and the filled texts."""
        there = context["there"]
        told = self.answers(outputs)
        answers = {
            "token": tf.where(there[:, :, tf.newaxis], told["token"], ""),
            "score": tf.where(there[:, :, tf.newaxis], told["score"], 0.0),
            "token_id": tf.where(there[:, :, tf.newaxis], told["token_id"], 0),
        }
        bare = tf.gather(tf.constant(self._token_texts()[1], tf.string), told["token_id"])
        bare = tf.where(there[:, :, tf.newaxis], bare, "")
        filled = _fill(context["text"], context["start"], context["end"], there, bare)
        return answers | {"start": context["start"], "end": context["end"], "filled": filled}

    def _token_texts(self) -> tuple[np.ndarray, np.ndarray]:
        """The text of each row of the token table, as it is answered and as it is filled in."""
        if self._texts_of_tokens is None:
            known = self.tokenizer.vocabulary_size
            with tf.init_scope():  # out of the graph under construction
                rows = tf.RaggedTensor.from_row_lengths(tf.range(known), tf.ones([known], tf.int64))
                told = self.tokenizer.detokenize(rows).numpy()
            # A table of embeddings may have more rows than there are tokens.
            spare = [b""] * (self.encoder.config.vocabulary_size - known)
            texts = [*told, *spare]
            bare = [_bare(text) for text in texts]
            self._texts_of_tokens = np.array(texts, object), np.array(bare, object)
        return self._texts_of_tokens

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; tokens that are as good as equally probable may change places."""
        scores = largest_difference(expected["score"], got["score"])
        ours, theirs = expected["token_id"], got["token_id"]
        for mask in range(len(ours)):
            score = expected["score"][mask]
            for place in np.flatnonzero(ours[mask] != theirs[mask]):
                same = np.flatnonzero(ours[mask] == theirs[mask][place])
                # What is not among ours may have been as good as our last.
                other = score[same[0]] if len(same) else score[-1]
                if abs(float(score[place]) - float(other)) > 2 * tolerance:
                    return None
        if np.array_equal(ours, theirs):
            names = [name for name in ("token", "filled", "start", "end") if name in expected]
            if not all(np.array_equal(expected[name], got[name]) for name in names):
                return None
        return scores

    # === Text to batches ===

    def _examples(self, x: Any) -> Examples:
        examples = as_examples(x)
        if examples.text_pairs is not None:
            raise DataError("Expected texts, got pairs of them: masks are told in one text.")
        return examples

    def _targets(self, y: Any, examples: Examples) -> None:
        if y is not None:
            raise DataError("A MaskedLM learns from texts alone: leave the labels out.")

    def _sample_weights(self, targets: Any, class_weight: Any, sample_weight: Any) -> None:
        if class_weight is not None or sample_weight is not None:
            raise ConfigError("A MaskedLM takes no `class_weight` and no `sample_weight`.")

    def _labelled_rows(
        self, examples: Examples, targets: Any = None, weights: Any = None
    ) -> LabelledRows:
        return self._cut_rows(examples)[0]

    def _cut_rows(self, examples: Examples) -> tuple[LabelledRows, np.ndarray]:
        """Cuts texts into rows of at most `max_length` tokens and numbers their words.

        Returns the rows, and int64 (rows,), the text that each is of.
        """
        flags = word_flags(self.tokenizer)
        special = [self.tokenizer.token_to_id(token) for token in self.tokenizer.special_tokens]
        parts: list[tuple[np.ndarray, ...]] = []
        for begin in range(0, len(examples), _TOKENIZED_AT_ONCE):
            texts = list(examples.texts[begin : begin + _TOKENIZED_AT_ONCE])
            cuts = self.tokenizer.windows(texts, max_length=self.max_length, stride=0)
            ids, mask = cuts["token_ids"].numpy(), cuts["padding_mask"].numpy().astype(bool)
            maskable = mask & ~np.isin(ids, special)
            kept = maskable.any(axis=1)
            ids, mask, maskable = ids[kept], mask[kept], maskable[kept]
            segments = cuts["segment_ids"].numpy()[kept]
            documents = cuts["document"].numpy()[kept].astype(np.int64) + begin
            parts.append((ids[mask], segments[mask], maskable[mask], mask.sum(axis=1), documents))
        ids, segments, maskable, lengths, documents = map(np.concatenate, zip(*parts, strict=True))
        if not len(lengths):
            raise DataError("There is no word to mask in the texts: all of them are empty.")
        splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        words = np.arange(len(ids), dtype=np.int32)
        if self.masking.whole_words:
            opening = np.zeros(len(ids), bool)
            opening[splits[:-1]] = True
            opening[splits[:-1] + 1] = True  # a word that goes on in another row is two
            begins = begins_word(tf.constant(flags), ids, tf.constant(opening)).numpy()
            words = np.maximum.accumulate(np.where(begins, words, 0)).astype(np.int32)
        words = np.where(maskable, words, NO_LABEL).astype(np.int32)
        return LabelledRows(TokenRows(ids, splits, segments), token_labels=words), documents

    def _batches(
        self,
        data: LabelledRows,
        *,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> tf.data.Dataset:
        batches = super()._batches(
            data, batch_size=batch_size, shuffle=shuffle, seed=seed, **options
        )
        return masked_batches(
            batches,
            self.masking,
            mask_id=self._mask_id,
            vocabulary_size=self.tokenizer.vocabulary_size,
            seed=seed,
            every_epoch=shuffle,
            first_epoch=options.get("first_epoch", 0),
        )

    def _batch_of(self, data: LabelledRows, *, seed: int) -> tuple[Any, ...]:
        inputs, words = super()._batch_of(data, seed=seed)
        return masked_batch(
            inputs,
            words,
            self.masking,
            mask_id=self._mask_id,
            vocabulary_size=self.tokenizer.vocabulary_size,
            seed=seed,
        )

    # === Training and measuring ===

    def _output_kind(self) -> Outputs:
        return Outputs("tokens", type(self).__name__, accuracy=MaskedAccuracy)

    def _default_loss(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=NO_LABEL)

    def _default_metrics(self) -> list[keras.metrics.Metric]:
        return [MaskedAccuracy()]

    def predict_logits(self, x: Any, **kwargs: Any) -> np.ndarray:
        """Is not there: logits of all masks would be too many. See `predict`."""
        raise ConfigError("A MaskedLM has no `predict_logits`; see `predict` and the model itself.")

    def report(self, x: Any, y: Any = None, *, batch_size: int = 64) -> MaskedLMReport:
        """Loss, perplexity and accuracy at masked words.

        Which words are masked hangs on the texts, `mask_rate` and `whole_words` alone, so that two
        models with one tokenizer are asked the same.

        Args:
            x: as in `fit`.
            y: None.
            batch_size: int.

        Returns:
            MaskedLMReport.

        Raises:
            DataError: `x` is not of texts, or there is nothing to mask.
        """
        examples, targets = self._prepared(x, y)
        data = self._labelled_rows(examples, targets)
        nats, right, tokens = 0.0, 0, 0
        for inputs, labels in self._batches(data, batch_size=batch_size, shuffle=False):
            log_p, (best, _) = self._scored()(inputs, labels)
            nats -= float(log_p.numpy().astype(np.float64).sum())
            there = labels.numpy() != NO_LABEL
            right += int((there & (best.numpy() == labels.numpy())).sum())
            tokens += int(there.sum())
        return MaskedLMReport.of(nats, right, tokens, len(examples))

    def mistakes(self, x: Any, *, batch_size: int = 64) -> list[dict[str, Any]]:
        """Lists masked tokens that another was held likelier than, of what `report` counts.

        Args:
            x: as in `fit`.
            batch_size: int.

        Returns:
            a dict for each, the surest first: `index` of the text, `text` as the model saw it,
            `token` and `predicted` as texts, and `score` float32, the probability of the latter.

        Raises:
            DataError: as `report`.
        """
        examples, _ = self._prepared(x, None)
        data, documents = self._cut_rows(examples)
        rows = documents[length_order(data.lengths)]
        told = [text.decode("utf-8", "replace") for text in self._token_texts()[0]]
        found, begin = [], 0
        for inputs, labels in self._batches(data, batch_size=batch_size, shuffle=False):
            predicted, score = (part.numpy() for part in self._scored()(inputs, labels)[1])
            masked = self.tokenizer.detokenize(
                tf.ragged.boolean_mask(inputs["token_ids"], inputs["padding_mask"] == 1)
            ).numpy()
            labels = labels.numpy()
            for row, place in np.argwhere((labels != NO_LABEL) & (labels != predicted)):
                found.append({
                    "index": int(rows[begin + row]),
                    "text": masked[row].decode("utf-8", "replace"),
                    "token": told[labels[row, place]],
                    "predicted": told[predicted[row, place]],
                    "score": score[row, place],
                })  # fmt: skip
            begin += len(labels)
        return sorted(found, key=lambda mistake: -mistake["score"])

    def pseudo_perplexity(self, x: Any, *, batch_size: int = 64) -> dict[str, np.ndarray]:
        """Says how probable texts are: each token is masked in turn and told by the others.

        Special tokens are not counted; texts are cut off behind `max_length` tokens. The
        pseudo-perplexity of a corpus is `exp(-sum(pseudo_log_likelihood) / sum(tokens))`.

        Args:
            x: list of str, or Examples.
            batch_size: int. Rows at once; a text of n tokens takes n rows.

        Returns:
            dict of arrays (texts,): `pseudo_log_likelihood` float32, the sum of ln p of the
            tokens, in nats; `tokens` int32; `pseudo_perplexity` float32, exp of the mean of -ln p,
            1 for a text without tokens.

        Raises:
            DataError: `x` is not of texts.

        Source: Salazar et al. 2020, arXiv 1910.14659.
        """
        check_arguments(batch_size=batch_size)
        examples = self._examples(x)
        rows = self.tokenize_rows(examples.texts)
        counts = np.maximum(rows.lengths - 2, 0)  # without the tokens around each text
        text = np.repeat(np.arange(len(rows)), counts)  # (N,), N tokens of all texts
        column = np.arange(len(text)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        order = np.argsort(-counts[text], kind="stable")
        sums = np.zeros(len(rows), np.float64)
        for begin in range(0, len(order), batch_size):
            chosen = order[begin : begin + batch_size]
            inputs, tokens = self._masked_in_turn(rows, text[chosen], column[chosen])
            log_p, _ = self._scored()(inputs, tokens)
            np.add.at(sums, text[chosen], log_p.numpy()[:, 0].astype(np.float64))
        return {
            "pseudo_log_likelihood": sums.astype(np.float32),
            "tokens": counts.astype(np.int32),
            "pseudo_perplexity": np.exp(
                np.minimum(-sums / np.maximum(counts, 1), 88.0)  # what float32 can hold
            ).astype(np.float32),
        }

    def _masked_in_turn(
        self, rows: TokenRows, text: np.ndarray, column: np.ndarray
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Rows with one token masked in each, and these tokens, int32 (B, 1)."""
        lengths = rows.lengths[text]
        columns = np.arange(lengths.max())[np.newaxis]
        mask = columns < lengths[:, np.newaxis]
        places = np.where(mask, rows.row_splits[text][:, np.newaxis] + columns, 0)
        ids = np.where(mask, rows.token_ids[places], self.tokenizer.pad_token_id)
        segments = np.zeros_like(ids) if rows.segment_ids is None else rows.segment_ids[places]
        at = (np.arange(len(text)), column)
        tokens = ids[at].copy()
        ids[at] = self._mask_id
        arrays = (ids, np.where(mask, segments, 0), mask, column[:, np.newaxis])
        names = (*INPUT_NAMES, "mask_positions")
        inputs = {
            name: tf.constant(array, tf.int32) for name, array in zip(names, arrays, strict=True)
        }
        return inputs, tf.constant(tokens[:, np.newaxis], tf.int32)

    def _scored(self) -> Any:
        """`token_scores` of this model, traced anew where the weights are other variables."""
        key = tuple(id(variable) for variable in self.weights)
        found: tuple[tuple[int, ...], Any] | None = getattr(self, "_traced_scores", None)
        if found is None or found[0] != key:

            def score(inputs: dict[str, tf.Tensor], tokens: tf.Tensor) -> Any:
                return token_scores(self(inputs, training=False), tokens)

            found = (key, tf.function(score, reduce_retracing=True, autograph=False))
            self._traced_scores = found
        return found[1]


def _bare(text: bytes) -> bytes:
    """A token's text as it stands in a sentence: without "##" and without the space before it."""
    plain = text.decode("utf-8", "surrogateescape")
    if plain.startswith("##") and len(plain) > 2:
        plain = plain[2:]
    return (plain.lstrip(_SPACES) or plain).encode("utf-8", "surrogateescape")


def _fill(
    texts: tf.Tensor, start: tf.Tensor, end: tf.Tensor, there: tf.Tensor, tokens: tf.Tensor
) -> tf.Tensor:
    """Puts tokens in the place of masks.

    Args:
        texts: string (B,).
        start: int32 (B, M). Bytes.
        end: int32 (B, M).
        there: bool (B, M).
        tokens: string (B, M, K), empty where there is no mask.

    Returns:
        string (B, K).
    """
    sizes = tf.strings.length(texts)[:, tf.newaxis]  # (B, 1)
    starts = tf.concat([tf.where(there, start, sizes), sizes], axis=1)  # (B, M + 1)
    ends = tf.concat([tf.zeros_like(sizes), tf.where(there, end, sizes)], axis=1)
    shape = tf.shape(starts)
    splits = ragged_ops.splits_from_lengths(tf.fill([shape[0]], tf.cast(shape[1], tf.int64)))
    between = cut(texts, tf.reshape(ends, [-1]), tf.reshape(starts, [-1]), splits)
    between = tf.reshape(between, shape)[:, :, tf.newaxis]  # (B, M + 1, 1)
    between = tf.repeat(between, tokens.shape[2], axis=2)  # joining does not broadcast
    joined = tf.strings.join([between[:, :-1], tokens])  # (B, M, K)
    return tf.strings.join([tf.strings.reduce_join(joined, axis=1), between[:, -1]])
