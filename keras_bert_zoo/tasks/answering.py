"""Text in, answers out: the part of a task that is there in an exported graph, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import Encoder, encoder_inputs
from keras_bert_zoo.encoders.no_keras_files import refuse_keras_files
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.tasks.batches import check_ends, prediction_batches, python_batches
from keras_bert_zoo.tasks.chunks import run_in_chunks
from keras_bert_zoo.tasks.inputs import as_examples
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.arguments import check_arguments

Context = dict[str, Any]
"""What decoding needs of a batch of texts beyond the model's outputs: offsets, for one."""


@refuse_keras_files("load")
class AnsweringModel(keras.Model):
    """A functional Keras model on token ids that answers text.

    Calling the model maps `{"token_ids", "segment_ids", "padding_mask"}`, int32 (B, S), to float32
    outputs. `predict` takes strings.

    A task says how its head is connected (`connect`), which texts it takes (`text_specs`), how they
    become token ids (`encode_texts`) and how outputs become answers (`decode`). `predict` and the
    exported graph both go that way, in TensorFlow ops.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer, whose ids the encoder knows.
        head: the task's layer, or whatever its `connect` takes.
        max_length: int, tokens; None: 128, or the encoder's positions if they are fewer.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: a `max_length` beyond the encoder's positions, or another model's tokenizer.

    Attributes:
        encoder: Encoder.
        tokenizer: Tokenizer.
        head: what makes outputs of what the encoder gives.
        max_length: int, tokens. Longer texts are truncated to it.
        pair: bool or None. Whether it takes pairs of texts: True or False once it was trained here
            or where the task takes nothing else; None where that is not known, as of a new model or
            of one from elsewhere. Then `predict` and its like take either. It can be set.
    """

    encoder: Encoder
    tokenizer: Tokenizer
    max_length: int
    pair: bool | None

    takes_pairs: ClassVar[bool | None] = False
    """Whether the task is on pairs of texts; None: on single texts or on pairs."""
    default_max_length: ClassVar[int] = 128
    keeps_dtype: ClassVar[bool] = False
    """Whether an export computes this model in the dtype it has here, whatever is asked for."""

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        head: keras.layers.Layer,
        *,
        max_length: int | None = None,
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        config = encoder.config
        if max_length is None:
            max_length = min(self.default_max_length, config.max_tokens)
        if not isinstance(max_length, int) or not 3 <= max_length <= config.max_tokens:
            raise ConfigError(
                f"`max_length` must be between 3 and the encoder's {config.max_tokens} "
                f"positions, got {max_length!r}."
            )
        if tokenizer.vocabulary_size > config.vocabulary_size:
            raise ConfigError(
                f"The tokenizer has {tokenizer.vocabulary_size} tokens, the encoder's table only "
                f"{config.vocabulary_size} rows. Use the vocabulary the encoder was trained with."
            )
        inputs = self.model_inputs()
        outputs = self.connect(encoder, head, inputs, token_layout=token_layout)
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.head = head
        self.max_length = max_length
        self.token_layout = token_layout
        self.pair = self.takes_pairs
        # Graphs of `answer_texts`, of single texts and of pairs, and what they hold as constants.
        self._traced: dict[bool, tuple[tuple[Any, ...], Any]] = {}

    # === The graph: strings in, answers out ===

    @classmethod
    def model_inputs(cls) -> dict[str, keras.KerasTensor]:
        """What the model is called with, symbolic; int32 (B, S), or (B, group, S)."""
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
        """Connects an encoder and the task's head to inputs, for training and for serving.

        Args:
            encoder: Encoder.
            head: the task's.
            inputs: what `model_inputs` returns, or tensors of such shapes.
            token_layout: "padded" or "packed".
            attention_groups: int. See `TokenLayout`.

        Returns:
            the model's outputs: float32 logits (B, units) here, of the pooled output.
        """
        return head(
            encoder.pooled_outputs(
                dict(inputs), token_layout=token_layout, attention_groups=attention_groups
            )
        )

    @classmethod
    def serving_inputs(cls) -> dict[str, keras.KerasTensor]:
        """What answering needs of `model_inputs`: all, unless some are for training alone."""
        return cls.model_inputs()

    def respond(self, inputs: Mapping[str, Any]) -> Any:
        """Computes what `decode` reads, with the present weights.

        Args:
            inputs: as `serving_inputs` lists them.

        Returns:
            the model's outputs, unless the task answers with something else.
        """
        return self(inputs, training=False)

    def respond_in_chunks(self, inputs: Mapping[str, Any]) -> Any:
        """Computes the same as `respond`, of a large batch a few rows at a time."""
        return run_in_chunks(self.respond, inputs, self.row_cost(inputs))

    def row_cost(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What a row of inputs costs in memory: int32 (), the number of tokens that cost as much.

        Args:
            inputs: as `serving_inputs` lists them, with at least one dimension.
        """
        return tf.reduce_prod(tf.shape(inputs["token_ids"])[1:])

    def head_in(self, dtype: str) -> Any:
        """The head, or, where most of the computing is in it, a copy in another dtype.

        Args:
            dtype: str. What an export's encoder computes in.

        Returns:
            the task's head, or a layer like it, whose weights have the same paths and values.
        """
        return self.head

    def serve(
        self,
        encoder: Encoder,
        head: Any,
        inputs: Mapping[str, Any],
        *,
        token_layout: str,
        attention_groups: int,
    ) -> Any:
        """Connects the task to inputs for an export; what `respond` computes.

        Args:
            encoder: Encoder: the task's, or a copy of it in another dtype.
            head: the task's, or what `head_in` returned.
            inputs: tensors, as `serving_inputs` lists them.
            token_layout: see `connect`.
            attention_groups: see `connect`.

        Returns:
            see `respond`.
        """
        return self.connect(
            encoder, head, inputs, token_layout=token_layout, attention_groups=attention_groups
        )

    def text_specs(self, *, pair: bool | None = None) -> dict[str, tf.TensorSpec]:
        """The strings that the task takes: name -> string (B,), or (B, n) for fixed groups.

        Args:
            pair: bool. Of pairs of texts or of single ones; None: as the attribute `pair` says.
        """
        pair = self.pair if pair is None else pair
        names = ("text", "text_pair") if pair else ("text",)
        return {name: tf.TensorSpec([None], tf.string, name=name) for name in names}

    def encode_texts(self, *texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], Context]:
        """Turns strings into the model's inputs, in TensorFlow ops.

        Args:
            *texts: string tensors, as `text_specs` lists them.

        Returns:
            inputs as the model takes them; and whatever `decode` needs of the texts.
        """
        packed = self.tokenizer(texts if len(texts) == 2 else texts[0], max_length=self.max_length)
        return packed, {}

    def decode(self, outputs: Any, context: Context) -> dict[str, tf.Tensor]:
        """Turns the model's outputs into answers, in TensorFlow ops.

        Args:
            outputs: what the model returned.
            context: what `encode_texts` returned.

        Returns:
            dict of dense float32, int32 or string tensors (B, ...); see the subclass.
        """
        return self.answers(outputs)

    def answers(self, outputs: Any) -> dict[str, tf.Tensor]:
        """What can be said without the text, for callers who send token ids.

        Args:
            outputs: what the model returned.

        Returns:
            dict of tensors (B, ...): the outputs as `logits`, unless the subclass says more.
        """
        return {"logits": outputs}

    def answer_texts(self, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answers strings with the present weights, in TensorFlow ops.

        Args:
            *texts: string tensors, as `text_specs` lists them.

        Returns:
            see `decode`.
        """
        return self.answer_with([stage.respond_in_chunks for stage in self.stages()], *texts)

    def stages(self) -> Sequence[AnsweringModel]:
        """The models that an answer takes, one after the other: this one, and perhaps more."""
        return (self,)

    def answer_with(
        self, runs: Sequence[Callable[[dict[str, tf.Tensor]], Any]], *texts: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Answers strings by the functions that stand for `stages`: their models, or an export's.

        Args:
            runs: for each stage a function from its model's inputs to its outputs.
            *texts: string tensors, as `text_specs` lists them.

        Returns:
            see `decode`.
        """
        (run,) = runs
        inputs, context = self.encode_texts(*texts)
        return self.decode(run(inputs), context)

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers to one text, which may differ by rounding.

        Args:
            expected: name -> array, a row of what `answer_rows` returns.
            got: another such row.
            tolerance: float. What rounding may do to a score.

        Returns:
            float, the largest difference of numbers, relative where they are beyond 1, infinite
            where one is not a number; None where the answers are different ones.
        """
        for name, wanted in expected.items():
            if wanted.dtype == object and not np.array_equal(wanted, got[name]):
                return None
        return max(largest_difference(wanted, got[name]) for name, wanted in expected.items())

    # === Answers to Python ===

    def _examples(self, x: Any) -> Any:
        """Takes what `fit` and `predict` accept; an object that knows its length, with `texts`."""
        return as_examples(x)

    def _text_columns(self, examples: Any) -> tuple[Sequence[Any], ...]:
        """The texts of examples, in the order of `text_specs`."""
        if examples.text_pairs is None:
            return (examples.texts,)
        return (examples.texts, examples.text_pairs)

    def predict(
        self, x: Any, *, batch_size: int | None = 64, verbose: Any = 0
    ) -> dict[str, np.ndarray]:
        """Answers texts; the exported model gives the same answers.

        Args:
            x: what the task takes, see the subclass; or batches of texts: a tf.data.Dataset
                without labels, a `keras.utils.PyDataset`, or a generator that ends. Of the latter
                two a batch is `x`, (x,), or (x, y) with labels that are not read; a pair is
                ((first, second),).
            batch_size: int. None: 64.
            verbose: 1 shows a progress bar.

        Returns:
            dict of arrays with one row per text; see the subclass. Texts are str: bytes that are
            not UTF-8 become U+FFFD.

        Raises:
            DataError: `x` is not of texts.
        """
        batch_size = 64 if batch_size is None else batch_size
        if python_batches(x):
            rows = [
                self.answer_rows(*self._checked_columns(batch), batch_size=batch_size)
                for batch in prediction_batches(x)
            ]
            joined = _joined(rows or [self._answered()])
            return {name: _text_array(values) for name, values in joined.items()}
        if isinstance(x, tf.data.Dataset):
            self._check_batches(x)
            elements = (element if isinstance(element, tuple) else (element,) for element in x)
            parts = [self._answered(*batch) for batch in elements] or [self._answered()]
            return {name: _text_array(values) for name, values in _joined(parts).items()}
        columns = self._checked_columns(x)
        answers = self.answer_rows(*columns, batch_size=batch_size, verbose=verbose)
        return {name: _text_array(values) for name, values in answers.items()}

    def answer_rows(
        self, *columns: Sequence[Any], batch_size: int = 64, verbose: Any = 0
    ) -> dict[str, np.ndarray]:
        """Answers columns of texts; `predict` with its strings still bytes, as a server has them.

        Args:
            *columns: as `text_specs` lists them: lists of str or bytes, or of rows of such.
            batch_size: int.
            verbose: 1 shows a progress bar.

        Returns:
            dict of arrays with one row per text.
        """
        check_arguments(batch_size=batch_size)
        count = len(columns[0])
        if not count:
            return _joined([self._answered()])
        # Batches of like length, the longest first: what does not fit the memory fails at once.
        order = np.argsort([-_size(row) for row in zip(*columns, strict=True)], kind="stable")
        progress = keras.utils.Progbar(count, verbose=verbose, unit_name="text")
        parts = []
        for begin in range(0, count, batch_size):
            rows = order[begin : begin + batch_size]
            batch = [_strings([column[row] for row in rows]) for column in columns]
            parts.append(self._answered(*batch))
            progress.update(min(begin + batch_size, count))
        joined = _joined(parts)
        back = np.argsort(order)
        return {name: values[back] for name, values in joined.items()}

    def _answered(self, *texts: tf.Tensor) -> dict[str, np.ndarray]:
        """Answers one batch; without texts, an empty one."""
        if not texts:
            texts = tuple(
                tf.zeros([0, *spec.shape[1:]], tf.string) for spec in self.text_specs().values()
            )
        pair = len(texts) == 2
        # Traced anew where the weights are other variables: LoRA's, for one.
        key = (self._graph_key(), *(id(variable) for variable in self.weights))
        found = self._traced.get(pair)
        if found is None or found[0] != key:
            specs = list(self.text_specs(pair=pair).values())
            found = key, tf.function(self.answer_texts, input_signature=specs, autograph=False)
            self._traced[pair] = found
        return {name: value.numpy() for name, value in found[1](*texts).items()}

    def _graph_key(self) -> tuple[Any, ...]:
        """What a graph of `answer_texts` holds as constants; when it changes, another is traced."""
        return (self.max_length,)

    def _checked_columns(self, x: Any) -> tuple[Sequence[Any], ...]:
        """The texts of what `predict` takes, as many columns of them as the task takes."""
        columns = self._text_columns(self._examples(x))
        if self.takes_pairs is None:  # elsewhere `_text_columns` gives what the task takes
            self._check_number_of_texts(len(columns))
        return columns

    def _check_number_of_texts(self, count: int) -> None:
        """Raises DataError for pairs where the model takes single texts, and the other way round.

        Where `pair` is not known, both are right.
        """
        if self.pair is None or count == 1 + self.pair:
            return
        name, hint = f"a {type(self).__name__}", ""
        if self.takes_pairs is None:
            name = "a model that was trained on them"
            hint = " To use it otherwise all the same, set `task.pair = None`."
        expected, got = "single texts", "pairs of texts"
        if self.pair:
            expected, got = "pairs of texts, a tuple of two lists,", "single texts"
        raise DataError(f"Expected {expected} for {name}, got {got}.{hint}")

    def _check_batches(self, dataset: tf.data.Dataset) -> None:
        """Checks a dataset of texts before it is read.

        Raises:
            DataError: its elements are no batches of texts, as many as the task takes.
            ConfigError: it has no end.
        """
        element = dataset.element_spec
        parts = element if isinstance(element, tuple) else (element,)
        specs = self.text_specs()
        names = list(specs)
        if len(parts) != len(names) or any(
            not isinstance(part, tf.TensorSpec) or part.dtype != tf.string for part in parts
        ):
            hint = ""
            if len(parts) == 2 and self.takes_pairs is None and not self.pair:
                hint = " (For pairs of texts on a model that was not trained on them here, set "
                hint += "`task.pair = True`: two parts might be texts and labels.)"
            raise DataError(
                f"Expected a dataset of batches of {' and '.join(names)}, strings, got "
                f"{len(parts)} parts a batch: leave the labels out.{hint}"
            )
        for part, (name, spec) in zip(parts, specs.items(), strict=True):
            if not spec.shape.is_compatible_with(part.shape):
                raise DataError(
                    f"Expected a dataset of batches, `{name}` of the shape {spec.shape}, got "
                    f"{part.shape}: batch it, `dataset.batch(64)`."
                )
        check_ends(dataset, "`predict` answers", "`dataset.take(...)` takes a part of it")


def largest_difference(wanted: np.ndarray, got: np.ndarray) -> float:
    """The largest difference of numbers, relative where they are beyond 1; of strings, 0."""
    if wanted.dtype == object or not wanted.size:
        return 0.0
    wanted, got = wanted.astype(np.float64), got.astype(np.float64)
    difference = np.abs(got - wanted) / np.maximum(1, np.abs(wanted))
    # Written so that NaN, of either, is a difference.
    return float(np.max(np.where(difference >= 0, difference, np.inf)))


def _strings(texts: Sequence[Any]) -> tf.Tensor:
    """Makes string (B,) of texts, or (B, n) of rows of texts."""
    rows = [
        [as_bytes(text) for text in row] if isinstance(row, list | tuple) else as_bytes(row)
        for row in texts
    ]
    return tf.constant(rows, tf.string)


def as_bytes(text: str | bytes) -> bytes:
    """A text in UTF-8; lone surrogates become bytes that are no text, as tokenizers take them."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _size(row: Any) -> int:
    """Bytes of a text, or of all texts in nested lists of them."""
    if isinstance(row, str | bytes):
        return len(as_bytes(row))
    return sum(_size(part) for part in row)


def _joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Sets batches' answers below each other, padded to the widest with 0 or empty strings."""
    return {
        name: np.concatenate(joined_widths(*(part[name] for part in parts))) for name in parts[0]
    }


def joined_widths(*arrays: np.ndarray) -> list[np.ndarray]:
    """Pads arrays (B, ...) with 0 or empty strings to the widest of them; B may differ."""
    shape = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
    padded = []
    for array in arrays:
        wide = np.full((len(array), *shape), b"" if array.dtype == object else 0, array.dtype)
        wide[tuple(slice(size) for size in array.shape)] = array
        padded.append(wide)
    return padded


def _text_array(values: np.ndarray) -> np.ndarray:
    if values.dtype != object:
        return values
    decoded = np.empty(values.size, dtype=object)
    decoded[:] = [value.decode("utf-8", "replace") for value in values.reshape(-1)]
    return decoded.reshape(values.shape)
