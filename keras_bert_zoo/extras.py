"""Checks for the packages of the extras, which a plain installation lacks."""

from __future__ import annotations

import importlib.util

from keras_bert_zoo.errors import ConfigError

__all__ = ["check_package"]


def check_package(module: str, purpose: str, *, package: str = "", extra: str = "") -> None:
    """Checks that a package is installed, without importing it.

    Args:
        module: str. The name to import.
        purpose: str. The option or the tool that needs it, for the message.
        package: str. The name to install, if it differs from the module's.
        extra: str. The extra of this package that brings it, if its name differs.

    Raises:
        ConfigError: the package is missing.
    """
    if importlib.util.find_spec(module) is None:
        package = package or module
        raise ConfigError(
            f"Expected the package {package} for {purpose}, but it is not installed. "
            f"Run: pip install 'keras_bert_zoo[{extra or package}]'"
        )
