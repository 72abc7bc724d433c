"""Renames that the standard library lacks: an exchange, and a rename that replaces nothing."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

# From Linux' fcntl.h and fs.h.
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2

# Errors of kernels, file systems and sandboxes that do not support these renames.
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM}


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two directories atomically: neither name is ever missing.

    Args:
        one: path of an existing directory.
        other: path of an existing directory on the same file system.

    Returns:
        bool. False: the system does not support this, and nothing has changed.

    Raises:
        OSError: any other failure.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     one, other = Path(folder, "one"), Path(folder, "other")
        ...     (one / "first").mkdir(parents=True)
        ...     other.mkdir()
        ...     exchange(one, other) == (other / "first").exists()
        True
    """
    try:
        _renameat2(one, other, _RENAME_EXCHANGE)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def rename_new(source: Path, target: Path) -> None:
    """Renames a directory that is not empty. Never replaces a file or directory.

    Args:
        source: path of the directory.
        target: path on the same file system.

    Raises:
        FileExistsError: `target` exists, even if another process has just created it.
        OSError: any other failure.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "one" / "first").mkdir(parents=True)
        ...     rename_new(Path(folder, "one"), Path(folder, "other"))
        ...     os.listdir(folder)
        ['other']
    """
    try:
        _renameat2(source, target, _RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    else:
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
    try:
        source.rename(target)  # replaces only an empty directory
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        raise


def _renameat2(source: Path, target: Path, flags: int) -> None:
    """Calls the function of the C library. glibc has it since 2.28; other systems lack it."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target))
    if library.renameat2(*paths, flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(source), None, os.fspath(target))
