"""Hidden siblings of a file or directory that is being written: names, owners, remains.

`.NAME.KIND-HOST-PID-RANDOM` stands next to NAME. KIND is `new` for what is being written, `old` for
what NAME was while two renames put the new one in its place, and `gone` for what is being removed.
The owner holds a lock on it, which ends with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

NEW, OLD, GONE = "new", "old", "gone"

_LONGEST_NAME = 200  # bytes; file systems take 255
# A lock is taken a moment after its file is made; process ids are used again.
_FRESH_SECONDS = 60
# A shared disk may keep the locks of other machines from us.
_FOREIGN_SECONDS = 24 * 3600
_LOCK_TRIES, _LOCK_PAUSE = 50, 0.01  # others hold a lock for a moment to see whether it is free


@dataclass(frozen=True)
class Hidden:
    """A hidden sibling.

    Attributes:
        path: Path.
        kind: str, one of NEW, OLD and GONE.
        host: str. Which machine and which of its spaces of process ids its owner is in.
        process: int. The owner's id.
        token: str. The same for the siblings of one write.
    """

    path: Path
    kind: str
    host: str
    process: int
    token: str

    def renamed(self, kind: str) -> Path:
        """The path that the sibling has as another kind."""
        head, _, _ = self.path.name.rpartition(f".{self.kind}-{self.token}")
        return self.path.with_name(f"{head}.{kind}-{self.token}")

    def is_abandoned(self) -> bool:
        """Whether its owner has ended; False where that is not certain."""
        try:
            age = time.time() - self.path.stat().st_mtime
        except OSError:
            return False  # somebody else has just removed it
        locked = _is_locked(self.path)
        if locked:
            return False
        if self.host != _host():
            return age > _FOREIGN_SECONDS
        if not _runs(self.process):
            return True
        return locked is False and age > _FRESH_SECONDS


def hidden_siblings(target: Path) -> list[Hidden]:
    """Lists the hidden siblings of a name.

    Args:
        target: path, which need not exist.

    Returns:
        list of Hidden; empty where the folder cannot be read.
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
    """Makes an empty hidden sibling for what is to be written.

    Args:
        target: path, in an existing folder.
        directory: bool. Whether to make a directory, or else a file.

    Returns:
        Hidden, of the kind NEW; and an open file descriptor that holds its lock.

    Raises:
        OSError: it cannot be made.
    """
    prefix = f"{_stem(target)}.{NEW}-{_host()}-{os.getpid()}-"
    if directory:
        name = tempfile.mkdtemp(prefix=prefix, dir=target.parent)
        descriptor = os.open(name, os.O_RDONLY)
    else:
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=target.parent)
    # Both are private when made; the result should be as readable as any other.
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, (0o777 if directory else 0o666) & ~umask)
    lock(descriptor)
    path = Path(name)
    token = path.name.removeprefix(f"{_stem(target)}.{NEW}-")
    return Hidden(path, NEW, _host(), os.getpid(), token), descriptor


def lock(descriptor: int) -> None:
    """Locks an open file or directory for this process, where the file system has locks."""
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
    """Removes a hidden sibling; what cannot be removed is left for a later write.

    A directory loses its name first: half of one must never pass for a model.
    """
    path = hidden.path
    if hidden.kind == OLD:
        with contextlib.suppress(OSError):
            path = path.rename(hidden.renamed(GONE))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def discard_abandoned(target: Path) -> None:
    """Removes the hidden siblings of a name whose owners have ended."""
    for hidden in hidden_siblings(target):
        if hidden.is_abandoned():
            discard(hidden)


def _stem(target: Path) -> str:
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}"


def _host() -> str:
    """Eight digits for this machine; containers count as machines of their own."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{os.uname().nodename}\0{space}".encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no process id at all
        return True
    return True


def _is_locked(path: Path) -> bool | None:
    """Whether another holds a lock; None: the file system does not say."""
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
