"""Hidden siblings of a file or directory that is being written.

The sibling of NAME is `.NAME.KIND-HOST-PID-RANDOM`. KIND is `new` for the file or directory that is
being written. It is `old` for the earlier one while two renames replace it, and `gone` while it is
removed. The owner holds a lock on the sibling until its process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

NEW, OLD, GONE = "new", "old", "gone"

_LONGEST_NAME = 200  # bytes; file systems take 255
# A file exists for a moment before it is locked; and process ids are reused.
_FRESH_SECONDS = 60
# On a shared disk, the locks of other machines may be invisible.
_FOREIGN_SECONDS = 24 * 3600
_LOCK_TRIES, _LOCK_PAUSE = 50, 0.01  # a process that tests a lock holds it for a moment


@dataclass(frozen=True)
class Hidden:
    """A hidden sibling.

    Attributes:
        path: Path.
        kind: str, one of NEW, OLD and GONE.
        host: str. An id of the owner's machine and its PID namespace.
        process: int. The owner's process id.
        token: str. An id of the write; its siblings share it.
    """

    path: Path
    kind: str
    host: str
    process: int
    token: str

    def renamed(self, kind: str) -> Path:
        """Returns the path of the sibling as another kind."""
        head, _, _ = self.path.name.rpartition(f".{self.kind}-{self.token}")
        return self.path.with_name(f"{head}.{kind}-{self.token}")

    def is_abandoned(self) -> bool:
        """Whether its owner has ended; False if this is uncertain."""
        try:
            age = time.time() - self.path.stat().st_ctime  # a rename updates it
        except OSError:
            return False  # another process has just removed it
        locked = is_locked(self.path)
        if locked:
            return False
        if self.host != host_name():
            return age > _FOREIGN_SECONDS
        if not _runs(self.process):
            return True
        return locked is False and age > _FRESH_SECONDS


def hidden_siblings(target: Path) -> list[Hidden]:
    """Lists the hidden siblings of a name.

    Args:
        target: path, which may not exist.

    Returns:
        list of Hidden; empty if the parent directory cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, ".model.old-0123abcd-42-89abcdef").mkdir()
        ...     Path(folder, ".model.old-of-mine").mkdir()
        ...     [(s.kind, s.process) for s in hidden_siblings(Path(folder, "model"))]
        [('old', 42)]
    """
    pattern = re.compile(
        re.escape(_stem(target)) + rf"\.({NEW}|{OLD}|{GONE})-(([0-9a-f]{{8}})-(\d+)-[a-z0-9_]{{8}})"
    )
    siblings = []
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match:
                kind, token, host, process = match.groups()
                path = target.parent / entry.name
                siblings.append(Hidden(path, kind, host, int(process), token))
    return siblings


def make_hidden(target: Path, *, directory: bool) -> tuple[Hidden, int]:
    """Creates an empty hidden sibling of a file or directory to write.

    It has the mode of `target`, or the default mode if `target` is missing. A directory is always
    writable for its owner.

    Args:
        target: path, in an existing directory.
        directory: bool. Whether to create a directory or a file.

    Returns:
        Hidden, of the kind NEW; and an open file descriptor that holds its lock.

    Raises:
        OSError: it cannot be created.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     hidden, descriptor = make_hidden(Path(folder, "model"), directory=True)
        ...     hidden.path.name.startswith(".model.new-"), hidden.is_abandoned()
        ...     os.close(descriptor)
        (True, False)
    """
    token = f"{host_name()}-{os.getpid()}-{secrets.token_hex(4)}"
    path = target.with_name(f"{_stem(target)}.{NEW}-{token}")
    if directory:
        path.mkdir()
        descriptor = os.open(path, os.O_RDONLY)
    else:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    copy_mode(target, descriptor, writable=directory)
    lock(descriptor)
    return Hidden(path, NEW, host_name(), os.getpid(), token), descriptor


def copy_mode(source: Path, descriptor: int, *, writable: bool = False) -> None:
    """Copies the mode, the owner and the group of a path to an open file or directory.

    Changes that the system does not allow are skipped. If `source` is missing, nothing changes.

    Args:
        source: path.
        descriptor: int, of the open file or directory.
        writable: bool. Whether the owner always has all permissions.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "earlier").touch(mode=0o600)
        ...     with open(Path(folder, "new"), "wb") as file:
        ...         copy_mode(Path(folder, "earlier"), file.fileno())
        ...         oct(os.fstat(file.fileno()).st_mode)
        '0o100600'
    """
    try:
        model, status = source.stat(), os.fstat(descriptor)
    except OSError:
        return
    if stat.S_IFMT(model.st_mode) != stat.S_IFMT(status.st_mode):
        return
    if model.st_uid != status.st_uid:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, model.st_uid, -1)
    if model.st_gid != status.st_gid:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, -1, model.st_gid)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, stat.S_IMODE(model.st_mode) | (stat.S_IRWXU if writable else 0))


def lock(descriptor: int) -> None:
    """Locks an open file or directory for this process, if the file system has locks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     lock(file.fileno())
    """
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE)
        except OSError:
            return
        else:
            return


def discard(hidden: Hidden) -> None:
    """Removes a hidden sibling. If this fails, a later write removes it.

    A directory is renamed first, so that a partial directory is never read as a model.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     hidden, descriptor = make_hidden(Path(folder, "model"), directory=True)
        ...     discard(hidden)
        ...     os.close(descriptor)
        ...     os.listdir(folder)
        []
    """
    path = hidden.path
    if hidden.kind == OLD:
        with contextlib.suppress(OSError):
            path = path.rename(hidden.renamed(GONE))
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(OSError):  # the directory may be read-only
            path.chmod(stat.S_IRWXU)
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def discard_abandoned(target: Path) -> None:
    """Removes the hidden siblings of a name whose owners have ended.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     left = Path(folder, f".model.new-{host_name()}-{2**22 + 1}-89abcdef")
        ...     left.mkdir()
        ...     discard_abandoned(Path(folder, "model"))
        ...     left.exists()
        False
    """
    for hidden in hidden_siblings(target):
        if hidden.is_abandoned():
            discard(hidden)


def _stem(target: Path) -> str:
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}"


def host_name() -> str:
    """Returns an id of eight digits for this machine and its PID namespace."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{os.uname().nodename}\0{space}".encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or an invalid process id
        return True
    return True


def is_locked(path: Path) -> bool | None:
    """Whether another process holds the lock. None: the file system has no locks."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False
