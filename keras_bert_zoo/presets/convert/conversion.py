"""The conversion of a checkpoint, step by step."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keras_bert_zoo.checkpoints.formats import detect_format
from keras_bert_zoo.checkpoints.source import TensorSource
from keras_bert_zoo.directories.replacing import replace_directory
from keras_bert_zoo.errors import BertZooError, CheckpointError, ConfigError
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.presets.convert.compare import compare_outputs, compare_tensors, largest
from keras_bert_zoo.presets.convert.models import bare_checkpoint, load_model
from keras_bert_zoo.presets.convert.tokenizers import (
    compare_pieces,
    compare_tokens,
    make_model_file,
    tokenizer_files,
    tokenizer_or_none,
    write_albert_options,
)
from keras_bert_zoo.presets.convert.write import (
    write_google,
    write_huggingface,
    write_keras_hub,
    write_preset,
)
from keras_bert_zoo.presets.resolve import Source, load_tokenizer, resolve

FORMATS = ("huggingface", "google", "keras-hub", "preset")
"""The output formats."""

# The largest float32 difference between runs of a model with other kernels and orders of sums.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion, and of its checks.

    Attributes:
        path: Path of the result.
        source_format: "huggingface", "google" or "keras-hub".
        format: one of `FORMATS`.
        family: str.
        heads: names of the heads.
        heads_left_out: names of the source's heads that were not converted.
        tensors: int. Number of tensors that are bit-identical in source and result.
        differing: names of tensors whose values differ.
        left_out: names of tensors that only the source has, such as tied ones.
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
    source: Source,
    destination: str | os.PathLike[str],
    to: str,
    *,
    allow_pickle: bool = False,
    ignore_config_keys: Iterable[str] = (),
    approximate_gelu: bool = False,
    encoder_only: bool = False,
) -> Conversion:
    """Writes a checkpoint in another format, and compares the outputs of both.

    "huggingface" keeps all tensors and their dtypes, under current names. "preset" is the format
    of this package: known heads, in float32. "google" and "keras-hub" refuse unsupported options,
    and the message lists them. The destination is only created if the result loads and computes the
    same outputs.

    Args:
        source: see `find_preset`.
        destination: path of a directory that is missing or empty.
        to: one of `FORMATS`.
        allow_pickle: bool. Whether a pytorch_model.bin may be read; see `open_checkpoint`.
        ignore_config_keys: keys of config.json to ignore if they are unknown or unsupported.
        approximate_gelu: bool. For "keras-hub": see `write_keras_hub_preset`. The outputs
            then differ. The difference is reported, but is not an error.
        encoder_only: bool. Write the encoder without its heads. The pooler of the family's bare
            model is written if there is one and the format supports it. Only the encoder's outputs
            are compared.

    Returns:
        Conversion.

    Raises:
        ConfigError: the format is unknown, or the format does not support the config.
        CheckpointError: the source does not exist or does not fit its config; the format does not
            support it; the result cannot be written, or its outputs differ.
    """
    if to not in FORMATS:
        raise ConfigError(f"Expected `to` to be one of {', '.join(FORMATS)}, received {to!r}.")
    target = Path(destination)
    if target.is_dir() and any(target.iterdir()):
        raise CheckpointError(
            f"Expected an empty or missing directory, received {target}, which is not empty."
        )
    ignored = tuple(ignore_config_keys)
    checkpoint = resolve(source, allow_pickle=allow_pickle, ignore_config_keys=ignored)
    directory = checkpoint.directory
    model = load_model(checkpoint, encoder_only=encoder_only)
    tokenizer = tokenizer_or_none(checkpoint)
    with (
        replace_directory(target, CheckpointError, marker=SIDE_FILE) as aside,
        tokenizer_files(tokenizer) as files,
        _naming({aside: target, files: directory}),
    ):
        with checkpoint.open() as tensors:
            config = model.encoder.config.with_own_names(checkpoint.raw)
            written: TensorSource = tensors
            if encoder_only:
                config, written = bare_checkpoint(config, tensors, model.encoder, to)
            made = ""  # name of the new model file of the tokenizer
            if to == "preset":
                write_preset(aside, model, tokenizer)
            elif to == "huggingface":
                write_huggingface(aside, config, written, files)
            elif to == "google":
                made = make_model_file(tokenizer, files, config, directory)
                write_google(aside, config, written, files, ignored)
                write_albert_options(aside, tokenizer)
            else:
                made = make_model_file(tokenizer, files, config, directory)
                write_keras_hub(aside, config, written, files, approximate_gelu)
            same, differing, left_out = compare_tensors(tensors, aside, model.encoder)
        if tokenizer is not None:
            converted = load_tokenizer(aside)
            if made:
                compare_pieces(tokenizer, converted, made, directory)
            compare_tokens(tokenizer, converted)
        outputs = compare_outputs(model, load_model(resolve(aside, ignore_config_keys=ignored)))
        worst = largest(outputs)
        if not worst <= _TOLERANCE and not approximate_gelu:
            raise CheckpointError(
                f"The outputs of the result differ: the largest difference is {worst:.1e} "
                f"({max(outputs, key=lambda name: outputs[name])}). Nothing was written."
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


@contextmanager
def _naming(paths: Mapping[Path | None, Path]) -> Iterator[None]:
    """Replaces the names of temporary directories in error messages."""
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


def describe(conversion: Conversion) -> str:
    """Returns a conversion as one JSON object, on one line."""
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
