"""Atomic replacement of directories, and recovery after a killed process."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from keras_bert_zoo.directories.contents import MODEL_PARTS, find_mount, find_rivals, keep_others
from keras_bert_zoo.directories.hidden import (
    NEW,
    OLD,
    Hidden,
    discard,
    discard_abandoned,
    hidden_siblings,
    lock,
    make_hidden,
)
from keras_bert_zoo.directories.renames import exchange, rename_new
from keras_bert_zoo.errors import BertZooError

_logger = logging.getLogger(__name__)

# The longest time between two renames of another process.
_SWAP_SECONDS = 2.0
_SWAP_PAUSE = 0.02
# Attempts, because other processes may rename or remove directories meanwhile.
_TRIES = 20
# Errors of file systems without fsync.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}


@contextlib.contextmanager
def replace_directory(
    path: str | os.PathLike[str],
    error: type[BertZooError],
    *,
    marker: str,
    parts: re.Pattern[str] = MODEL_PARTS,
) -> Iterator[Path]:
    """Yields a temporary directory that replaces `path` when the block ends without an error.

    After a failure, such as a full disk, `path` is unchanged. If the process is killed, `path` is
    the complete earlier directory or the complete new one. The mode of the earlier directory is
    kept. So are its files that are not the model's; see `directories.contents`.

    If the file system cannot exchange two directories, two renames replace `path`. If the process
    is killed between them, `path` is missing and both directories have hidden names.
    `find_directory` then renames the new one to `path`.

    Args:
        path: path of the directory to write. It may be missing, empty, or an earlier result.
        error: the class of errors to raise.
        marker: name of a file that every earlier result has. A directory without it is replaced
            only if it is empty.
        parts: matches the names of files and directories to replace.

    Yields:
        Path of an empty directory on the same file system.

    Raises:
        BertZooError: of the class `error`, in one line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for text in ("one", "two"):
        ...         with replace_directory(
        ...             Path(folder, "model"), BertZooError, marker="config.json"
        ...         ) as aside:
        ...             _ = (aside / "config.json").write_text(text)
        ...     Path(folder, "model", "config.json").read_text(), os.listdir(folder)
        ('two', ['model'])
    """
    target = _resolved(path, error)  # replaces the target of a link
    _check_not_current(target, error)
    find_directory(target)
    _check_target(target, error, marker, parts)
    with write_aside(target, error) as hidden:
        yield hidden.path
        keep_other_files(target, hidden.path, parts)
        _copy_mode(target, hidden.path)
        sync_tree(hidden.path)
        with _swapped(hidden, target, error) as earlier:
            try:
                sync_name(target, error)
            finally:
                if earlier is not None:
                    _keep_late(earlier, target, parts)


def _check_not_current(target: Path, error: type[BertZooError]) -> None:
    """Raises an error if the current directory is `target` or inside it: it would be replaced."""
    with contextlib.suppress(OSError):
        current = Path.cwd()
        if target == current or target in current.parents:
            raise error(
                f"Cannot replace {str(target)!r}: it is or contains the current directory. Change "
                "to another directory first."
            )


@contextlib.contextmanager
def write_aside(
    target: Path, error: type[BertZooError], *, stem: str | None = None
) -> Iterator[Hidden]:
    """Yields a hidden directory next to `target`. Removes it at the end if it still exists.

    It first removes hidden directories of ended processes that wrote `target`.

    Args:
        target: path. Its parent directory is created if it is missing.
        error: the class of errors to raise.
        stem: str. The name from which the hidden name is made. None: the name of `target`.

    Yields:
        Hidden, an empty directory.

    Raises:
        BertZooError: of the class `error`, in one line, for any OSError of the block.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with write_aside(Path(folder, "model"), BertZooError) as hidden:
        ...         rename_new(hidden.path, Path(folder, "model"))
        ...     os.listdir(folder)
        ['model']
    """
    hidden, descriptor = None, None
    try:
        hidden, descriptor = _make(target if stem is None else target.with_name(stem))
        yield hidden
    except OSError as failure:
        raise error(
            f"Cannot write {target}: {failure.strerror or failure}. Nothing was changed there."
        ) from failure
    finally:
        if hidden is not None:
            discard(hidden)
        if descriptor is not None:
            os.close(descriptor)


def find_directory(path: str | os.PathLike[str]) -> Path:
    """Finds a directory, even if a process was killed while it replaced the directory.

    If the file system cannot exchange two directories, a killed process may leave the complete new
    directory under a hidden name. It is then renamed to `path`, and a warning is logged.

    Args:
        path: path of the directory.

    Returns:
        Path: `path`. If `path` is missing, and another process does not finish replacing it or the
        rename fails: the hidden directory with the files.

    Example:
        >>> import tempfile
        >>> from keras_bert_zoo.directories.hidden import host_name
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for kind in ("old", "new"):  # as a killed process leaves them
        ...         Path(folder, f".model.{kind}-{host_name()}-{2**22 + 1}-89abcdef").mkdir()
        ...     find_directory(Path(folder, "model")).name, os.listdir(folder)
        ('model', ['model'])
    """
    given = Path(path)
    try:
        if given.exists():
            return given
        target = given.resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL character, a loop of links
        return given
    deadline = time.monotonic() + _SWAP_SECONDS
    while True:
        siblings = hidden_siblings(target)
        earlier = [hidden for hidden in siblings if hidden.kind == OLD]
        if not earlier or target.exists():
            return given
        abandoned = [hidden for hidden in earlier if hidden.is_abandoned()]
        if abandoned:
            return _finish(given, target, abandoned[0], siblings)
        if time.monotonic() > deadline:
            return _read_in_place(given, earlier[0].path)
        time.sleep(_SWAP_PAUSE)


def sync_name(path: Path, error: type[BertZooError]) -> None:
    """Flushes the name of a file or directory that was just renamed to disk.

    Raises:
        BertZooError: of the class `error`; the disk fails.

    Example:
        >>> sync_name(Path("/tmp"), BertZooError)
    """
    try:
        sync_path(path.parent)
    except OSError as failure:
        raise error(
            f"{path} was written, but the disk failed afterwards: {failure.strerror or failure}. "
            "A power failure may undo the write. Check the disk and write it again."
        ) from failure


def sync_tree(directory: Path) -> None:
    """Flushes all files of a directory to disk, so that a power failure leaves no empty files.

    Raises:
        OSError: the disk is full or fails. Some file systems report this only here.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sync_tree(Path(folder))
    """
    for folder, _, names in os.walk(directory):
        for name in names:
            sync_path(Path(folder) / name)
        sync_path(Path(folder))


def _resolved(path: str | os.PathLike[str], error: type[BertZooError]) -> Path:
    try:
        return Path(path).resolve()
    except (OSError, ValueError, RuntimeError) as failure:
        raise error(f"Cannot write {os.fspath(path)!r}: {failure}.") from None


def _check_target(
    target: Path, error: type[BertZooError], marker: str, parts: re.Pattern[str]
) -> None:
    """Raises an error if `target` is a file, or a directory that must not be replaced."""
    try:
        if target.exists() and not target.is_dir():
            raise error(f"Expected a directory or a new path, received the file {target}.")
        if not target.is_dir():
            return
        if any(target.iterdir()) and not (target / marker).exists():
            raise error(
                f"Will not replace {target}: it is not empty and has no {marker}, so it was not "
                "written by an earlier run. Pass another directory, or empty this one."
            )
        rivals = find_rivals(target, parts)
    except OSError as failure:
        raise error(
            f"Cannot write {target}: {failure.strerror or failure}. Nothing was changed there."
        ) from None
    if rivals:
        raise error(
            f"Will not replace {target}: it also has {', '.join(rivals[:8])}"
            f"{', ...' if len(rivals) > 8 else ''}, which a loader may read instead of the new "
            "model. Move it elsewhere, or pass another directory."
        )
    mount = find_mount(target)
    if mount == os.fspath(target):
        raise error(f"Cannot replace {target}: it is a mount point. Pass a directory inside it.")
    if mount is not None:
        raise error(
            f"Cannot replace {target}: {mount} in it is a mount point. Pass another directory."
        )


def _make(target: Path) -> tuple[Hidden, int]:
    discard_abandoned(target)
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            # Another process may remove a parent directory that it created and did not use.
            target.parent.mkdir(parents=True, exist_ok=True)
            return make_hidden(target, directory=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    return make_hidden(target, directory=True)


@contextlib.contextmanager
def _swapped(hidden: Hidden, target: Path, error: type[BertZooError]) -> Iterator[Path | None]:
    """Renames a directory to `target`. Yields the path of the earlier one and then removes it.

    The earlier directory is locked until then, so that it does not look abandoned.
    """
    old = replace(hidden, path=hidden.renamed(OLD), kind=OLD)
    with contextlib.ExitStack() as stack:
        try:
            for _ in range(_TRIES):
                stack.close()  # unlocks a directory that another process has replaced meanwhile
                if not target.exists():
                    with contextlib.suppress(FileExistsError):  # another process was faster
                        rename_new(hidden.path, target)
                        earlier = None
                        break
                with contextlib.suppress(FileNotFoundError, FileExistsError):
                    stack.enter_context(_locked(target))
                    exchanged = exchange(hidden.path, target)
                    if not exchanged:
                        _swap_in_two_steps(hidden.path, old.path, target, error)
                    earlier = hidden.path if exchanged else old.path
                    break
            else:
                raise FileExistsError(errno.EBUSY, os.strerror(errno.EBUSY), os.fspath(target))
            yield earlier
        finally:
            discard(hidden)
            if target.exists():
                discard(old)


def _swap_in_two_steps(new: Path, old: Path, target: Path, error: type[BertZooError]) -> None:
    try:
        target.rename(old)
        rename_new(new, target)
    except BaseException:  # also Ctrl-C between the two renames
        if old.exists():
            _undo(old, target, error)
        raise


def _undo(old: Path, target: Path, error: type[BertZooError]) -> None:
    """Undoes the first of two renames, unless `target` exists again."""
    try:
        with contextlib.suppress(FileExistsError):
            rename_new(old, target)
    except OSError as failure:
        raise error(
            f"Cannot write {target}: {failure.strerror or failure}. The earlier directory is now "
            f"{old}. Rename it to restore it."
        ) from failure


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def keep_other_files(target: Path, new: Path, parts: re.Pattern[str]) -> None:
    """Copies the files of a directory that do not belong to the model to the new one."""
    if target.is_dir():
        keep_others(target, new, parts)


def _copy_mode(target: Path, new: Path) -> None:
    """Copies the mode of the earlier directory to the new one."""
    if target.is_dir():
        with contextlib.suppress(OSError):  # a file system without modes
            new.chmod(stat.S_IMODE(target.stat().st_mode))


def _keep_late(earlier: Path, target: Path, parts: re.Pattern[str]) -> None:
    """Keeps files that were added to the earlier directory while it was replaced."""
    try:
        if keep_others(earlier, target, parts):
            sync_tree(target)
    except OSError as failure:
        _logger.warning("%s: a file that was added meanwhile was not kept: %s", target, failure)


def _finish(given: Path, target: Path, earlier: Hidden, siblings: list[Hidden]) -> Path:
    """Makes the second of two renames for a process that ended after the first."""
    new = next((s for s in siblings if s.kind == NEW and s.token == earlier.token), earlier)
    which = "earlier" if new is earlier else "new"
    try:
        rename_new(new.path, target)
    except (FileExistsError, FileNotFoundError):
        return given  # another process has done it
    except OSError:  # the parent directory may be read-only
        return _read_in_place(given, new.path)
    _logger.warning(
        "%s was missing, because a process ended while it replaced it. The complete %s directory "
        "was restored.",
        target,
        which,
    )
    if new is not earlier:
        discard(earlier)
    return given


def _read_in_place(given: Path, path: Path) -> Path:
    _logger.warning(
        "%s is missing: a process has not finished replacing it. Reading %s instead.", given, path
    )
    return path


def sync_path(path: Path) -> None:
    """Flushes the content of a file, or the names in a directory, to disk.

    Raises:
        OSError: the disk is full or fails.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     sync_path(Path(file.name))
    """
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)
