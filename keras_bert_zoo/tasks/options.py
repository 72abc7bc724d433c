"""The options of the tasks, declared once.

A task's options are a frozen dataclass. `from_preset` takes its fields, `save` writes them to the
side file, and `load` restores them. A traced graph holds them as constants. This module does not
import TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Self, TypedDict, TypeVar, overload

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.schema import (
    FLAG,
    NULL,
    TEXT,
    ValueType,
    integer,
    list_of,
    names_to,
    number,
    one_of,
)
from keras_bert_zoo.validation import is_number

MAX_TOKENS = 1 << 24
"""The longest input of a saved model; equal to `config.MOST`."""
MAX_LABELS = 1_000_000

_SHARE = ValueType("a number between 0 and 1", lambda value: is_number(value) and 0 < value < 1)

Value = TypeVar("Value")


class LoadOptions(TypedDict, total=False):
    """Options that every `from_preset` and `load` takes.

    Attributes:
        max_length: int, tokens. None: the saved value with a saved head, or else the default.
        token_layout: str. "packed" or "padded"; see `Encoder`.
        dtype: Keras dtype policy of the encoder, such as "mixed_bfloat16".
        allow_pickle: bool. Whether a pytorch_model.bin may be downloaded and read; see
            `open_checkpoint`.
        ignore_config_keys: unknown keys of config.json to ignore.
    """

    max_length: int | None
    token_layout: str
    dtype: Any
    allow_pickle: bool
    ignore_config_keys: Iterable[str]


def _saved(schema: ValueType, default: Any = None) -> Any:
    """A field that is saved in the side file."""
    return dataclasses.field(default=default, metadata={"schema": schema})


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Options of every task.

    Args:
        max_length: int, tokens. Longer texts are truncated or split into windows.
    """

    max_length: int | None = _saved(integer(3, MAX_TOKENS) | NULL)

    @classmethod
    def schema(cls) -> dict[str, ValueType]:
        """Returns name -> type of the saved options, for the schema of the side file."""
        fields = dataclasses.fields(cls)
        return {f.name: f.metadata["schema"] for f in fields if "schema" in f.metadata}

    @classmethod
    def restored(cls, saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Combines saved options with given ones; given values have priority.

        Args:
            saved: contents of the side file.
            given: name -> value; None: not given.

        Returns:
            dict: name -> value of every given or saved option.
        """
        values = {name: saved[name] for name in cls.schema() if name in saved}
        return values | {name: value for name, value in given.items() if value is not None}

    def to_side(self) -> dict[str, Any]:
        """Returns the options in the form of the side file."""
        return {name: getattr(self, name) for name in self.schema()}

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with other values."""
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationOptions(TaskOptions):
    """Options of `TextClassifier`."""

    threshold: float | tuple[float, ...] = _saved(_SHARE | list_of(_SHARE, MAX_LABELS), 0.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceOptions(TaskOptions):
    """Options of `MultipleChoice`."""

    num_choices: int = _saved(integer(2, MAX_LABELS), 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelationOptions(TaskOptions):
    """Options of `RelationClassifier`."""

    pooling: str = _saved(one_of("mean", "start"), "mean")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenClassificationOptions(TaskOptions):
    """Options of `TokenClassifier`."""

    stride: int | None = _saved(integer(0, MAX_TOKENS) | NULL)
    scheme: str | None = _saved(TEXT | NULL)
    legal_only: bool | None = _saved(FLAG | NULL)
    crf: bool = _saved(FLAG, False)
    nested: bool = _saved(FLAG, False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionAnsweringOptions(TaskOptions):
    """Options of `QuestionAnswerer`."""

    stride: int | None = _saved(integer(0, MAX_TOKENS) | NULL)
    max_answer_tokens: int = _saved(integer(1, MAX_TOKENS), 30)
    top_k: int = _saved(integer(1, MAX_TOKENS), 1)
    null_threshold: float | None = _saved(number(-1e38, 1e38) | NULL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingOptions(TaskOptions):
    """Options of `TextEmbedder` and search.

    Args:
        prompt: str. Text before every input. Not saved here: as in sentence-transformers, its name
            is saved.
    """

    prompt: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLMOptions(TaskOptions):
    """Options of `MaskedLM`."""

    top_k: int = _saved(integer(1, MAX_TOKENS), 5)
    mask_rate: float = _saved(_SHARE, 0.15)
    whole_words: bool = _saved(FLAG, False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingOptions(MaskedLMOptions):
    """Options of `Pretrainer`."""

    mask_share: float = _saved(number(0, 1), 0.8)
    random_share: float = _saved(number(0, 1), 0.1)
    max_ngram: int = _saved(integer(1, 10), 1)
    span_mean: float | None = _saved(number(1, 10) | NULL)
    objectives: tuple[str, ...] = _saved(list_of(TEXT, 10), ("masked_lm",))
    objective_weights: Mapping[str, float] | None = _saved(names_to(number(0, 1e38), 10) | NULL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslationOptions(TaskOptions):
    """Options of `Translator`."""

    num_beams: int = _saved(integer(1, MAX_TOKENS), 4)
    length_penalty: float = _saved(number(-1e38, 1e38), 1.0)
    max_target_length: int | None = _saved(integer(1, MAX_TOKENS))
    label_smoothing: float = _saved(number(0, 1), 0.1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectionOptions(EmbeddingOptions):
    """Options of `OpenDomainQuestionAnswerer`.

    Args:
        by_passage: bool. Whether to return the best span of every passage, for tuning.
    """

    passage_tokens: int | None = _saved(integer(1, MAX_TOKENS))
    passage_overlap: int | None = _saved(integer(0, MAX_TOKENS) | NULL)
    top_passages: int = _saved(integer(1, MAX_TOKENS), 5)
    top_k: int = _saved(integer(1, MAX_TOKENS), 1)
    retriever_weight: float = _saved(number(0, 1e38), 50.0)
    by_passage: bool = False


ALL_OPTIONS: tuple[type[TaskOptions], ...] = (
    ClassificationOptions,
    ChoiceOptions,
    RelationOptions,
    TokenClassificationOptions,
    QuestionAnsweringOptions,
    EmbeddingOptions,
    MaskedLMOptions,
    PretrainingOptions,
    TranslationOptions,
    CollectionOptions,
)
"""The options of every task; the side file's schema has all of them."""


def check_unknown(task: Any, given: Mapping[str, Any]) -> None:
    """Checks the arguments that a task passes on to `keras.Model`, which ignores unknown ones.

    Raises:
        ConfigError: an argument is not `name` or `trainable`.
    """
    unknown = sorted(set(given) - {"name", "trainable"})
    if unknown:
        raise ConfigError(
            f"{type(task).__name__} has no option {', '.join(map(repr, unknown))}: see "
            f"`help({type(task).__name__})`."
        )


def fitted_length(max_length: int | None, default: int, most: int) -> int:
    """Checks `max_length`; None: the default, or the encoder's positions if these are fewer.

    Raises:
        ConfigError: `max_length` is not from 3 to `most`.
    """
    if max_length is None:
        return min(default, most)
    if not isinstance(max_length, int) or not 3 <= max_length <= most:
        raise ConfigError(
            f"`max_length` must be from 3 to the encoder's {most} positions, received "
            f"{max_length!r}."
        )
    return max_length


class TaskOption(Generic[Value]):
    """An attribute of a task that reads and sets one of its options.

    Args:
        check: callable that raises ConfigError for an invalid value. None: the values that `save`
            can write are valid.

    Raises:
        ConfigError: an invalid value is set.
    """

    def __init__(self, check: Callable[[Any], object] | None = None) -> None:
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, task: None, owner: type) -> Self: ...

    @overload
    def __get__(self, task: Any, owner: type) -> Value: ...

    def __get__(self, task: Any, owner: type) -> Any:
        return self if task is None else getattr(task.options, self.name)

    def __set__(self, task: Any, value: Any) -> None:
        if hasattr(value, "item"):  # a NumPy number, which JSON cannot hold
            value = value.item()
        if self.name == "max_length":
            most = task.encoder.config.max_tokens
            value = fitted_length(value, task.spec.default_max_length, most)
        if self.check is not None:
            self.check(value)
        else:
            schema = task.options.schema()[self.name]
            if not schema.accepts(value):
                raise ConfigError(
                    f"Expected `{self.name}` to be {schema.expected}, received {value!r}."
                )
        task.options = task.options.replace(**{self.name: value})
