"""Writing a directory aside and putting it in place whole; finding what a kill left behind."""

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

# How long two renames of another process may take.
_SWAP_SECONDS = 2.0
_SWAP_PAUSE = 0.02
# How often others may get between two renames, or between making a folder and using it.
_TRIES = 20
# What file systems answer that have no fsync.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}


@contextlib.contextmanager
def replace_directory(
    path: str | os.PathLike[str],
    error: type[BertZooError],
    *,
    marker: str,
    parts: re.Pattern[str] = MODEL_PARTS,
) -> Iterator[Path]:
    """Yields a temporary directory that takes the place of `path` when the block ends well.

    A full disk, a read-only folder or any other failure leaves `path` as it was. So does a kill:
    at any moment `path` is the earlier directory or the new one, both whole. Of an earlier
    directory all that is not the model's is kept; see `directories.contents`. So is its mode.

    Where a file system cannot exchange two directories, two renames do it. A kill between them
    leaves no directory of that name: both, whole, have hidden names, and `find_directory` puts the
    new one in place.

    Args:
        path: of the directory to write. It may be missing, empty, or an earlier result.
        error: what to raise on failure.
        marker: name of a file by which an earlier result is known; any other directory that is
            not empty is not replaced.
        parts: matches the names of files and folders that are replaced.

    Yields:
        Path of an empty directory on the same file system.

    Raises:
        BertZooError: of the kind `error`, in one line.

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
    target = _resolved(path, error)  # of a link, what it points to is replaced
    _check_not_current(target, error)
    find_directory(target)
    _check_target(target, error, marker, parts)
    with write_aside(target, error) as hidden:
        yield hidden.path
        _keep(target, hidden.path, parts)
        _copy_mode(target, hidden.path)
        sync_tree(hidden.path)
        with _swapped(hidden, target, error) as earlier:
            try:
                sync_name(target, error)
            finally:
                if earlier is not None:
                    _keep_late(earlier, target, parts)


def _check_not_current(target: Path, error: type[BertZooError]) -> None:
    """Raises an error if the current directory would be replaced: it would no longer exist."""
    with contextlib.suppress(OSError):
        current = Path.cwd()
        if target == current or target in current.parents:
            raise error(
                f"Expected another directory than the current one or one that holds it, received "
                f"{str(target)!r}: it would be replaced. Change to another directory first."
            )


@contextlib.contextmanager
def write_aside(
    target: Path, error: type[BertZooError], *, stem: str | None = None
) -> Iterator[Hidden]:
    """Yields a hidden directory next to `target`; removes it in the end if it is still there.

    Remains of writes to `target` whose processes have ended are removed first.

    Args:
        target: path; its folder is made where it is missing.
        error: what to raise on failure.
        stem: str. What the hidden directory is named after; None: `target`.

    Yields:
        Hidden, an empty directory.

    Raises:
        BertZooError: of the kind `error`, in one line, for any OSError of the block.

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
    """Finds a directory that a kill in the middle of its replacement may have left without a name.

    That happens only where a file system cannot exchange two directories in one step. The new
    directory was whole by then: it takes its place now. The log says so.

    Args:
        path: of the directory.

    Returns:
        Path: as given; or, where it is missing, another process is replacing it and does not
        finish, or it cannot be renamed, the hidden directory that holds it.

    Example:
        >>> import tempfile
        >>> from keras_bert_zoo.directories.hidden import _host
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for kind in ("old", "new"):  # as a process leaves them that was killed
        ...         Path(folder, f".model.{kind}-{_host()}-{2**22 + 1}-89abcdef").mkdir()
        ...     find_directory(Path(folder, "model")).name, os.listdir(folder)
        ('model', ['model'])
    """
    given = Path(path)
    try:
        if given.exists():
            return given
        target = given.resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, a ring of links
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
    """Has the disk hold the name of what has just been put in place.

    Raises:
        BertZooError: of the kind `error`: the disk fails.

    Example:
        >>> sync_name(Path("/tmp"), BertZooError)
    """
    try:
        sync_path(path.parent)
    except OSError as failure:
        raise error(
            f"{path} is written, but the disk failed afterwards: {failure.strerror or failure}. "
            "A power cut may undo it: check the disk and write it again."
        ) from failure


def sync_tree(directory: Path) -> None:
    """Has the disk hold all of a directory, so that a power cut leaves no empty files.

    Raises:
        OSError: the disk is full or fails, which some file systems say only now.

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
    """Raises where a directory is none, or is not to be replaced."""
    try:
        if target.exists() and not target.is_dir():
            raise error(f"Cannot write the directory {target}: a file of that name exists.")
        if not target.is_dir():
            return
        if any(target.iterdir()) and not (target / marker).exists():
            raise error(
                f"Will not replace {target}: it is not empty and holds no {marker}, so it was not "
                "written by an earlier run. Name another directory or empty this one."
            )
        rivals = find_rivals(target, parts)
    except OSError as failure:
        raise error(
            f"Cannot write {target}: {failure.strerror or failure}. Nothing was changed there."
        ) from None
    if rivals:
        raise error(
            f"Will not replace {target}: it also holds {', '.join(rivals[:8])}"
            f"{', ...' if len(rivals) > 8 else ''}, which this package does not write there and "
            "which would not fit the new model. Move it elsewhere, or name another directory."
        )
    mount = find_mount(target)
    if mount == os.fspath(target):
        raise error(f"Cannot replace {target}: it is a mount point. Name a directory inside it.")
    if mount is not None:
        raise error(
            f"Cannot replace {target}: {mount} in it is a mount point. Name another directory."
        )


def _make(target: Path) -> tuple[Hidden, int]:
    discard_abandoned(target)
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            # Another process may remove a folder that it made and did not use.
            target.parent.mkdir(parents=True, exist_ok=True)
            return make_hidden(target, directory=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    return make_hidden(target, directory=True)


@contextlib.contextmanager
def _swapped(hidden: Hidden, target: Path, error: type[BertZooError]) -> Iterator[Path | None]:
    """Puts a directory in place; yields the path of what was there, and discards that in the end.

    What was there is locked until then: it must not look abandoned under its hidden name.
    """
    old = replace(hidden, path=hidden.renamed(OLD), kind=OLD)
    with contextlib.ExitStack() as stack:
        try:
            for _ in range(_TRIES):
                stack.close()  # the lock of a directory that another process has replaced meanwhile
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
    except BaseException:  # Ctrl-C between the two is the worst that could happen
        if old.exists():
            _undo(old, target, error)
        raise


def _undo(old: Path, target: Path, error: type[BertZooError]) -> None:
    """Undoes the first of two renames, unless there is a directory of that name again."""
    try:
        with contextlib.suppress(FileExistsError):
            rename_new(old, target)
    except OSError as failure:
        raise error(
            f"Cannot write {target}: {failure.strerror or failure}. The earlier directory is now "
            f"{old}; rename it back."
        ) from failure


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _keep(target: Path, new: Path, parts: re.Pattern[str]) -> None:
    if target.is_dir():
        keep_others(target, new, parts)


def _copy_mode(target: Path, new: Path) -> None:
    """Gives the new directory the mode of the earlier one, now that all is written."""
    if target.is_dir():
        with contextlib.suppress(OSError):  # a file system without modes
            new.chmod(stat.S_IMODE(target.stat().st_mode))


def _keep_late(earlier: Path, target: Path, parts: re.Pattern[str]) -> None:
    """Keeps what came into the earlier directory while it was being replaced."""
    try:
        if keep_others(earlier, target, parts):
            sync_tree(target)
    except OSError as failure:
        _logger.warning("%s: a file that was added meanwhile is not kept: %s", target, failure)


def _finish(given: Path, target: Path, earlier: Hidden, siblings: list[Hidden]) -> Path:
    """Does the second of two renames for a process that ended after the first."""
    new = next((s for s in siblings if s.kind == NEW and s.token == earlier.token), earlier)
    which = "earlier" if new is earlier else "new"
    try:
        rename_new(new.path, target)
    except (FileExistsError, FileNotFoundError):
        return given  # another process has done it
    except OSError:  # a read-only place
        return _read_in_place(given, new.path)
    _logger.warning(
        "%s was missing: a process ended while it replaced it. The %s directory, which is whole, "
        "is in its place now.",
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
    """Has the disk hold a file's content, or the names in a directory.

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
