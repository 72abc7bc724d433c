"""Converting a checkpoint from any format that is read to any that is written."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_bert_zoo.checkpoints.names import FamilyNames, names_of
from keras_bert_zoo.checkpoints.safetensors import LazyTensor, write_safetensors
from keras_bert_zoo.checkpoints.source import (
    FLOAT_DTYPES,
    TensorInfo,
    TensorSource,
    detect_format,
    open_checkpoint,
    read_config,
)
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.directories.replacing import replace_directory
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import BertZooError, CheckpointError, ConfigError
from keras_bert_zoo.files import SIDE_FILE, write_json
from keras_bert_zoo.presets.headed import architectures_of, save_headed
from keras_bert_zoo.presets.headed_model import HeadedModel
from keras_bert_zoo.presets.io import (
    LABEL_KEYS,
    find_pooler,
    find_preset,
    load_encoder,
    load_tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer
    from keras_bert_zoo.text.tokenizer import Tokenizer

_logger = logging.getLogger(__name__)

FORMATS = ("huggingface", "google", "keras-hub", "preset")

# Rows and tokens of the random batch on which both sides are asked; half of the second row and
# single tokens elsewhere are masked.
_ROWS, _TOKENS = 3, 24

# Case, accents, ideographs, punctuation, numbers and controls: what tokenizers treat differently.
_TEXTS = ("Hello World, it's CRÈME brûlée!", "我的卡 arrived 2 weeks ago.", "naïve\tZürich\n ﬁ ½")

# Family -> what its SentencePiece model file is called.
_MODEL_FILES = {
    "albert": "spiece.model",
    "deberta-v2": "spm.model",
    "xlm-roberta": "sentencepiece.bpe.model",
}
# What a model file must bring back of a tokenizer, besides its pieces.
_PIECE_OPTIONS = (
    "vocabulary", "normalizer", "split_at_whitespace", "split_at_punctuation", "split_at_spaces",
    "prefix", "byte_fallback", "unk_token_id", "cls_token", "sep_token", "pad_token", "mask_token",
)  # fmt: skip

# What two runs of one model may differ by in float32: other kernels, other orders of sums.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Conversion:
    """What was converted and how it was checked.

    Attributes:
        path: Path of what was written.
        source_format: "huggingface", "google" or "keras-hub".
        format: one of `FORMATS`.
        family: str.
        heads: names of the heads.
        heads_left_out: names of the source's heads that were not to be converted.
        tensors: int. Tensors of the source that stand in the result, bit for bit the same.
        differing: names of tensors of the source whose values are others in the result.
        left_out: names of tensors of the source that the result has not (tied ones among them).
        tokenizer: bool. Whether a tokenizer was converted.
        outputs: dict, output -> largest absolute difference between source and result.
    """

    path: Path
    source_format: str
    format: str
    family: str
    heads: tuple[str, ...]
    heads_left_out: tuple[str, ...]
    tensors: int
    differing: tuple[str, ...]
    left_out: tuple[str, ...]
    tokenizer: bool
    outputs: dict[str, float]

    @property
    def largest_difference(self) -> float:
        """The largest of `outputs`."""
        return largest(self.outputs)


def convert_checkpoint(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    to: str,
    *,
    allow_pickle: bool = False,
    ignore_config_keys: Iterable[str] = (),
    approximate_gelu: bool = False,
    encoder_only: bool = False,
) -> Conversion:
    """Writes a checkpoint in another format and compares what it computes.

    "huggingface" keeps every tensor and its dtype, under today's names; "preset" is what this
    package saves: the heads it knows, in float32; "google" and "keras-hub" refuse, by name, what
    their formats cannot say. The result takes its place only when it loads and computes the same.

    Args:
        source: see `find_preset`.
        destination: path of a directory that is missing or empty.
        to: one of `FORMATS`.
        allow_pickle: bool. Whether a pytorch_model.bin may be read; see `open_checkpoint`.
        ignore_config_keys: config.json keys to leave unread although they are unknown.
        approximate_gelu: bool. For "keras-hub": see `write_keras_hub_preset`. Outputs then
            differ, and are told but not held against the result.
        encoder_only: bool. Write the encoder without its heads, with the pooler of the family's
            bare model where there is one and the format has a place for it. Of the outputs, the
            encoder's are compared.

    Returns:
        Conversion.

    Raises:
        ConfigError: an unknown format, or the config asks for something unsupported.
        CheckpointError: the source is not there or does not fit; the format cannot say what it
            holds; the result cannot be written, or computes something else.
    """
    if to not in FORMATS:
        raise ConfigError(f"`to` must be one of {', '.join(FORMATS)}, got {to!r}.")
    target = Path(destination)
    if target.is_dir() and any(target.iterdir()):
        raise CheckpointError(f"Will not write to {target}: it is not empty.")
    ignored = tuple(ignore_config_keys)
    directory = find_preset(source, allow_pickle=allow_pickle)
    model = _load(directory, ignored, allow_pickle, encoder_only=encoder_only)
    tokenizer = _tokenizer(directory)
    with (
        replace_directory(target, CheckpointError, marker=SIDE_FILE) as aside,
        _tokenizer_files(tokenizer) as files,
        _naming({aside: target, files: directory}),
    ):
        with open_checkpoint(directory, allow_pickle=allow_pickle) as tensors:
            config = model.encoder.config.with_own_names(read_config(directory))
            written: TensorSource = tensors
            if encoder_only:
                config, written = _bare(config, tensors, model.encoder, to)
            made = ""  # the model file of the tokenizer, where it had none
            if to == "preset":
                _write_preset(aside, model, tokenizer)
            elif to == "huggingface":
                _write_huggingface(aside, config, written, files)
            elif to == "google":
                made = _make_model_file(tokenizer, files, config, directory)
                _write_google(aside, config, written, files, ignored)
                _say_how_to_read_pieces(aside, tokenizer)
            else:
                made = _make_model_file(tokenizer, files, config, directory)
                _write_keras_hub(aside, config, written, files, approximate_gelu)
            same, differing, left_out = _compare_tensors(tensors, aside, model.encoder)
        if tokenizer is not None:
            found = load_tokenizer(aside)
            if made:
                _compare_pieces(tokenizer, found, made, directory)
            _compare_tokens(tokenizer, found)
        outputs = _compare_outputs(model, _load(aside, ignored))
        worst = largest(outputs)
        if not worst <= _TOLERANCE and not approximate_gelu:
            raise CheckpointError(
                f"What was written computes something else: the largest difference is {worst:.1e} "
                f"({max(outputs, key=lambda name: outputs[name])}). Nothing was kept."
            )
    return Conversion(
        path=target,
        source_format=detect_format(directory),
        format=to,
        family=model.encoder.config.family,
        heads=tuple(model.heads),
        heads_left_out=model.left_out,
        tensors=same,
        differing=tuple(differing),
        left_out=tuple(left_out),
        tokenizer=tokenizer is not None,
        outputs=outputs,
    )


@dataclass
class _Model:
    """An encoder, alone or under heads."""

    encoder: Encoder
    heads: tuple[str, ...]
    call: keras.Model
    left_out: tuple[str, ...] = ()


def _load(
    directory: Path,
    ignored: tuple[str, ...],
    allow_pickle: bool = False,
    *,
    encoder_only: bool = False,
) -> _Model:
    """A checkpoint with its heads; the encoder alone where it has none that is known."""
    options: dict[str, Any] = {"allow_pickle": allow_pickle, "ignore_config_keys": ignored}
    heads, pooler = _parts(directory, ignored, allow_pickle)
    if heads and not encoder_only:
        model = HeadedModel.from_preset(directory, **options)
        return _Model(model.encoder, tuple(model.heads), model)
    if encoder_only and pooler:  # what a head keeps as its own is none of the encoder's
        options["pooler"] = False
    encoder = load_encoder(directory, **options)
    return _Model(encoder, (), encoder, heads)


def _parts(
    directory: Path, ignored: Iterable[str], allow_pickle: bool
) -> tuple[tuple[str, ...], str]:
    """The heads of a checkpoint, and the one whose the pooler is: "" for the encoder's, or none."""
    raw = read_config(directory)
    family = names_of(EncoderConfig.from_huggingface(raw, ignore=ignored))
    classes = {name: kinds for kinds, name in family.architectures.items()}
    told = [classes[name] for name in architectures_of(raw) if name in classes]
    with open_checkpoint(directory, allow_pickle=allow_pickle) as tensors:
        pooler = find_pooler(family, tensors) or ""
        complete = tuple(
            kind
            for kind, table in family.heads.items()
            if all(name in tensors for name in table.values() if name not in family.tied)
        )
    if told:
        return tuple(kind for kind in told[0].split("+") if kind), pooler
    return complete, pooler


class _Renamed(TensorSource):
    """Some tensors of an open checkpoint, under other names.

    Args:
        tensors: TensorSource.
        names: new name -> name in `tensors`.
    """

    def __init__(self, tensors: TensorSource, names: Mapping[str, str]) -> None:
        infos = {
            name: TensorInfo(tensors.shape(old), tensors.dtype(old)) for name, old in names.items()
        }
        super().__init__(tensors.path, infos)
        self._tensors, self._names = tensors, dict(names)

    def _read(self, stored_name: str) -> np.ndarray:
        return self._tensors.read(self._names[stored_name])


def _bare(
    config: Mapping[str, Any], tensors: TensorSource, encoder: Encoder, to: str
) -> tuple[dict[str, Any], TensorSource]:
    """The config and the tensors of a checkpoint's encoder alone."""
    family = names_of(encoder.config)
    table = family.encoder(encoder.config)
    if to != "keras-hub" or _keras_hub_pools(config):
        table |= family.pooler()
    theirs = family.in_file(table, family.prefix_of(tensors.names()))
    ours = family.in_file(table, "")
    names = {ours[path]: theirs[path] for path in table if theirs[path] in tensors}
    kept = {key: value for key, value in config.items() if key not in LABEL_KEYS}
    return kept | {"architectures": [family.architectures[""]]}, _Renamed(tensors, names)


def _keras_hub_pools(config: Mapping[str, Any]) -> bool:
    from keras_bert_zoo.checkpoints.keras_hub.options import find_family

    return find_family(config).pooler is not None


@contextmanager
def _naming(paths: Mapping[Path | None, Path]) -> Iterator[None]:
    """Has errors name the caller's directories instead of those that are gone after them."""
    try:
        yield
    except BertZooError as error:
        message = str(error)
        for temporary, path in paths.items():
            if temporary is not None:
                message = message.replace(str(temporary), str(path))
        if message == str(error):
            raise
        raise type(error)(message) from None


def _tokenizer(directory: Path) -> Tokenizer | None:
    try:
        return load_tokenizer(directory)
    except ConfigError as error:
        _logger.warning("no tokenizer is converted: %s", error)
        return None


@contextmanager
def _tokenizer_files(tokenizer: Tokenizer | None) -> Iterator[Path | None]:
    """A temporary directory with a tokenizer's files in Hugging Face's format."""
    if tokenizer is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="keras_bert_zoo_") as folder:
        tokenizer.save(folder)
        yield Path(folder)


def _make_model_file(
    tokenizer: Tokenizer | None, files: Path | None, config: Mapping[str, Any], directory: Path
) -> str:
    """Writes the SentencePiece model of a tokenizer that has none. Returns its name, or "".

    Raises:
        ConfigError: no such file says what the tokenizer does.
    """
    from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer

    if not isinstance(tokenizer, SentencePieceTokenizer) or files is None:
        return ""
    name = _MODEL_FILES.get(str(config.get("model_type")))
    if name is None or any(files.glob("*.model")):
        return ""
    from keras_bert_zoo.checkpoints.sentencepiece_writer import model_bytes

    try:
        data = model_bytes(tokenizer, fairseq=name == _MODEL_FILES["xlm-roberta"])
    except ConfigError as error:
        raise ConfigError(_no_model_file(directory, name, str(error))) from None
    (files / name).write_bytes(data)
    path = files / "tokenizer_config.json"
    write_json(path, json.loads(path.read_text("utf-8")) | _word_options(tokenizer))
    return name


def _word_options(tokenizer: SentencePieceTokenizer) -> dict[str, bool]:
    """The options of a class of transformers that a model file has no place for."""
    from keras_bert_zoo.checkpoints.sentencepiece_writer import normalizer_steps

    steps = {step.get("type") for step in normalizer_steps(tokenizer.normalizer)}
    return {
        "do_lower_case": "Lowercase" in steps,
        "keep_accents": "StripAccents" not in steps,
        "split_by_punct": tokenizer.split_at_punctuation,
    }


def _say_how_to_read_pieces(aside: Path, tokenizer: Tokenizer | None) -> None:
    """Writes ALBERT's options beside its model file: Google's own code has them in its flags."""
    from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer

    if isinstance(tokenizer, SentencePieceTokenizer) and any(aside.glob("*.model")):
        options = {"tokenizer_class": "AlbertTokenizer"} | _word_options(tokenizer)
        write_json(aside / "tokenizer_config.json", options)


def _no_model_file(directory: Path, name: str, reason: str) -> str:
    return (
        f"{directory} has its SentencePiece tokenizer in tokenizer.json alone, and a model file, "
        f"which this format needs, cannot be made from it: {reason}. Put the original model file "
        f"({name}) beside it; or convert a copy of the directory "
        "without the tokenizer's files, for the weights alone."
    )


def _compare_pieces(ours: Tokenizer, theirs: Tokenizer, name: str, directory: Path) -> None:
    """Raises ConfigError unless a tokenizer was read back from its model file as it was."""
    differing = [key for key in _PIECE_OPTIONS if _of(ours, key) != _of(theirs, key)]
    pieces = [
        [(text, np.float32(score)) for text, score in _of(side, "pieces") or ()]
        for side in (ours, theirs)
    ]
    if pieces[0] != pieces[1]:
        differing.insert(0, "pieces")
    if differing:
        raise ConfigError(
            _no_model_file(directory, name, f"it would be read with other {', '.join(differing)}")
        )


def _of(tokenizer: Tokenizer, name: str) -> Any:
    return getattr(tokenizer, name, None)


def _write_preset(aside: Path, model: _Model, tokenizer: Tokenizer | None) -> None:
    if isinstance(model.call, HeadedModel):
        model.call.tokenizer = tokenizer
        model.call.save(aside)
    else:
        kept = model.encoder.other_config
        save_headed(aside, model.encoder, {}, config=kept, tokenizer=tokenizer)


def _write_huggingface(
    aside: Path, config: Mapping[str, Any], tensors: TensorSource, files: Path | None
) -> None:
    write_json(aside / "config.json", dict(config))
    if files is not None:
        for file in files.iterdir():
            (aside / file.name).write_bytes(file.read_bytes())
    write_safetensors(
        aside,
        (
            (
                name,
                LazyTensor(tensors.shape(name), tensors.dtype(name), partial(tensors.read, name)),
            )
            for name in tensors.names()
            if tensors.dtype(name) in FLOAT_DTYPES
        ),
    )


def _write_google(
    aside: Path,
    config: Mapping[str, Any],
    tensors: TensorSource,
    files: Path | None,
    ignored: Iterable[str],
) -> None:
    from keras_bert_zoo.checkpoints.google.writer import write_google_checkpoint

    vocabulary = None
    if files is not None:
        found = [*files.glob("vocab.txt"), *files.glob("*.model")]
        vocabulary = found[0] if found else None
    write_google_checkpoint(aside, config, tensors, vocabulary, ignore_config_keys=ignored)


def _write_keras_hub(
    aside: Path,
    config: Mapping[str, Any],
    tensors: TensorSource,
    files: Path | None,
    approximate_gelu: bool,
) -> None:
    from keras_bert_zoo.checkpoints.keras_hub.writer import write_keras_hub_preset

    write_keras_hub_preset(aside, config, tensors, files, approximate_gelu=approximate_gelu)


def _compare_tensors(
    tensors: TensorSource, written: Path, encoder: Encoder
) -> tuple[int, list[str], list[str]]:
    """Counts the tensors that are the same, and names those that differ or are not there."""
    family = names_of(encoder.config)
    same, differing, left_out = 0, [], []
    with open_checkpoint(written) as found:
        theirs = family.prefix_of(found.names())
        ours = family.prefix_of(tensors.names())
        for name in tensors.names():
            if tensors.dtype(name) not in FLOAT_DTYPES or _is_buffer(family, name):
                continue
            other = _in_prefix(family, name, ours, theirs)
            if other not in found or found.shape(other) != tensors.shape(name):
                left_out.append(name)
            elif np.array_equal(
                tensors.read(name).astype(np.float32),
                found.read(other).astype(np.float32),
                equal_nan=True,
            ):
                same += 1
            else:
                differing.append(name)
    return same, differing, left_out


def _is_buffer(family: FamilyNames, name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in family.ignored)


def _in_prefix(family: FamilyNames, name: str, ours: str, theirs: str) -> str:
    if ours == theirs:
        return name
    if ours:  # a bare encoder was written: its names have no prefix
        return name.removeprefix(ours)
    return theirs + name


def _compare_tokens(ours: Tokenizer, theirs: Tokenizer) -> None:
    """Raises CheckpointError unless both cut some telling texts alike."""
    for text in _TEXTS:
        one, other = (tokenizer.tokenize(text).numpy().tolist() for tokenizer in (ours, theirs))
        if one != other:
            raise CheckpointError(
                f"The tokenizer that was written reads {text!r} as {other[:8]}, not as {one[:8]}: "
                "the format cannot say all of its options. Nothing was kept."
            )


def _compare_outputs(one: _Model, other: _Model) -> dict[str, float]:
    """The largest absolute difference of each output that both have, on random tokens."""
    config = one.encoder.config
    random = np.random.default_rng(0)
    shape = (_ROWS, min(_TOKENS, config.max_tokens))
    mask = random.random(shape) < 0.8
    mask[1, shape[1] // 2 :] = False
    mask[:, 0] = True
    inputs = {
        "token_ids": random.integers(0, config.vocabulary_size, shape).astype(np.int32),
        "segment_ids": random.integers(0, max(1, config.num_segments), shape).astype(np.int32),
        "padding_mask": mask.astype(np.int32),
    }
    # One segment is all that some formats have.
    if other.encoder.config.num_segments != config.num_segments:
        inputs["segment_ids"][:] = 0
    ours, theirs = ({**_asked(model, inputs)} for model in (one, other))
    differences = {}
    for name in ours.keys() & theirs.keys():
        left, right = (np.asarray(side[name], np.float64) for side in (ours, theirs))
        if left.shape[:2] == shape:  # outputs at padding mean nothing
            left, right = left[mask], right[mask]
        differences[name] = difference(left, right)
    return dict(sorted(differences.items()))


def difference(left: np.ndarray, right: np.ndarray) -> float:
    """The largest absolute difference of two arrays of one shape.

    Places where both hold the same, NaN or an infinity among it, do not differ; where only one is
    NaN the difference is infinite.

    >>> difference(np.array([1.0, np.nan]), np.array([1.5, np.nan]))
    0.5
    >>> difference(np.array([1.0]), np.array([np.nan]))
    inf
    """
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(left - right))
    return float(np.max(np.where(np.isnan(apart), np.inf, apart), initial=0.0))


def largest(differences: Mapping[str, float]) -> float:
    """The largest of some differences; NaN if one of them is."""
    return float(np.max([*differences.values()], initial=0.0))


def _asked(model: _Model, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    outputs = dict(model.encoder(inputs))
    if model.heads:
        outputs |= model.call(inputs)
    return outputs


def describe(conversion: Conversion) -> str:
    """The conversion as one JSON object."""
    values = {
        "path": str(conversion.path),
        "from": conversion.source_format,
        "to": conversion.format,
        "family": conversion.family,
        "heads": list(conversion.heads),
        "tensors": conversion.tensors,
        "differing": list(conversion.differing),
        "heads_left_out": list(conversion.heads_left_out),
        "left_out": list(conversion.left_out),
        "tokenizer": conversion.tokenizer,
        "outputs": conversion.outputs,
        "largest_difference": conversion.largest_difference,
    }
    return json.dumps(values)
