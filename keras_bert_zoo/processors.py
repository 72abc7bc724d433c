"""The name of this machine's CPU."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["processor"]

# Flags of units for products of bfloat16 and int8.
_UNITS = ("amx_int8", "amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx512f", "avx2")


def processor(cpuinfo: str | os.PathLike[str] = "/proc/cpuinfo") -> str:
    """Returns the CPU's name, its number of cores and its units for matrix products."""
    try:
        lines = Path(cpuinfo).read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    parts = (line.partition(":") for line in lines)
    fields = {name.strip().lower(): value.strip() for name, _, value in parts}
    flags = fields.get("flags", fields.get("features", "")).split()
    units = " ".join(unit for unit in _UNITS if unit in flags)
    name = fields.get("model name") or platform.processor() or platform.machine()
    cores = f"{name}, {os.cpu_count()} cores"
    return f"{cores} ({units})" if units else cores
