"""Renames that the standard library does not have: an exchange, and one that replaces nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from pathlib import Path

# Of Linux' fcntl.h and fs.h.
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2

# The number of renameat2 where the C library has no function for it (musl).
_SYSTEM_CALLS = {
    "x86_64": 316, "aarch64": 276, "riscv64": 276, "loongarch64": 276, "ppc64le": 357,
    "s390x": 347, "armv7l": 382, "i686": 353,
}  # fmt: skip

# What the kernel, a file system or a sandbox answers where it does not know these renames.
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM}


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two directories in one step: at no moment is either name missing.

    Args:
        one: path of an existing directory.
        other: path of an existing directory on the same file system.

    Returns:
        bool. False where the system cannot: nothing has changed then.

    Raises:
        OSError: any other failure.
    """
    try:
        _renameat2(one, other, _RENAME_EXCHANGE)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def rename_new(source: Path, target: Path) -> None:
    """Renames a directory that is not empty; replaces nothing.

    Args:
        source: path of the directory.
        target: path on the same file system.

    Raises:
        FileExistsError: something is at `target`, whoever made it and however late.
        OSError: any other failure.
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
        source.rename(target)  # in place of an empty directory, of nothing else
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        raise


def _renameat2(source: Path, target: Path, flags: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    paths = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target))
    number = _SYSTEM_CALLS.get(platform.machine())
    if platform.system() != "Linux":
        code = errno.ENOSYS
    elif hasattr(library, "renameat2"):
        code = ctypes.get_errno() if library.renameat2(*paths, flags) else 0
    elif number is not None:
        # The C library's variadic function reads every argument as a whole register.
        numbers = (ctypes.c_long(number), ctypes.c_long(_AT_FDCWD), ctypes.c_char_p(paths[1]))
        rest = (ctypes.c_long(_AT_FDCWD), ctypes.c_char_p(paths[3]), ctypes.c_long(flags))
        code = ctypes.get_errno() if library.syscall(*numbers, *rest) else 0
    else:
        code = errno.ENOSYS
    if code:
        raise OSError(code, os.strerror(code), os.fspath(source), None, os.fspath(target))
