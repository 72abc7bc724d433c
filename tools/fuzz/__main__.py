"""Reads damaged files with every reader of the package.

    python -m tools.fuzz                                   1,000 mutations of each reader's input
    python -m tools.fuzz --mutations 20000 --seed 7        more mutations, another seed
    python -m tools.fuzz --reader csv --first 812 --mutations 1   repeat one mutation
    python -m tools.fuzz --list                            names of the readers

A damaged file must be read, or rejected by an error of the package with one line of printable text.
Anything else is a fault: another exception, a crash, more than 10 seconds or more than 1 GB of
memory. Each fault is printed once per place in the code, with the command that repeats it. With
--keep FOLDER its input is written there. The exit status is 1 if there are faults.

Readers run in forks of this process, so that the mutation of a crash or a hang is known. No model
is built. A mutation depends only on the seed, the reader and its number.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing.connection
import os
import random
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import unicodedata
import warnings
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from keras_bert_zoo.errors import MESSAGE_LIMIT, BertZooError
from tools.fuzz.mutations import SPARSE, mutate
from tools.fuzz.readers import READERS, Reader

SECONDS = 10
BYTES = 1_000_000_000
CHUNK = 250  # mutations per fork


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutations", type=int, default=1000, help="number per reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--reader", action="append", help="only this reader; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs of faults")
    parser.add_argument("--list", action="store_true", help="print the readers' names")
    parser.add_argument("--times", action="store_true", help="print the seconds of each reader")
    args = parser.parse_args()
    names = [reader.name for reader in READERS]
    if args.list:
        print("\n".join(names))
        return 0
    for name in args.reader or ():
        if name not in names:
            parser.error(f"expected a reader of --list, received {name!r}")
    readers = [reader for reader in READERS if not args.reader or reader.name in args.reader]
    logging.getLogger("keras_bert_zoo").setLevel(logging.CRITICAL)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz_", dir=memory_disk()) as folder:
        run = Run(Path(folder), args.seed, args.keep)
        for reader in readers:
            run.prepare(reader)
        last = args.first + args.mutations
        run.work(
            [
                (reader, start, min(start + CHUNK, last))
                for reader in readers
                for start in range(args.first, last, CHUNK)
            ]
        )
    total = len(readers) * args.mutations
    print(
        f"{total:,} damaged inputs for {len(readers)} readers in {time.monotonic() - begin:.0f} s "
        f"(seed {args.seed}): {run.read:,} read, {run.rejected:,} rejected, "
        f"{sum(run.faults.values()):,} faults in {len(run.faults)} places"
    )
    if args.times:
        print(", ".join(f"{name} {seconds:.1f} s" for name, seconds in run.seconds.most_common()))
    return 1 if run.faults else 0


def memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass
class Fork:
    process: int
    pipe: Any
    reader: Reader
    number: int  # of the current mutation
    last: int
    since: float = field(default_factory=time.monotonic)


class Run:
    """Runs mutations in forks, one per core."""

    def __init__(self, folder: Path, seed: int, keep: Path | None) -> None:
        self.folder, self.seed, self.keep = folder, seed, keep
        self.valid: dict[str, dict[str, bytes]] = {}
        self.faults: dict[tuple[str, str], int] = {}
        self.read = self.rejected = 0
        self.seconds: Counter[str] = Counter()

    def prepare(self, reader: Reader) -> None:
        """Creates the valid input of a reader, in a fork: this process must not compute."""
        folder = self.folder / reader.name
        folder.mkdir()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                reader.make(folder)
                files = sorted(folder.rglob("*"))
                reader.read(folder)
                status = 0 if sorted(folder.rglob("*"))[: len(files)] else 1
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        if os.waitpid(pid, 0)[1]:
            raise SystemExit(f"{reader.name} cannot read its valid input")
        shutil.rmtree(folder / ".out", ignore_errors=True)
        self.valid[reader.name] = {
            os.fspath(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def work(self, chunks: list[tuple[Reader, int, int]]) -> None:
        waiting = deque(chunks)
        forks: list[Fork] = []
        while waiting or forks:
            while waiting and len(forks) < max(2, os.cpu_count() or 2):
                forks.append(self.start(*waiting.popleft()))
            ready = multiprocessing.connection.wait([fork.pipe for fork in forks], timeout=0.5)
            for fork in list(forks):
                ended = fork.pipe in ready and not self.receive(fork)
                hangs = time.monotonic() - fork.since > SECONDS
                if hangs and not ended:
                    os.kill(fork.process, signal.SIGKILL)
                    self.fault(fork.reader, fork.number, "hang", f"more than {SECONDS} seconds")
                if ended or hangs:
                    forks.remove(fork)
                    status = os.waitpid(fork.process, 0)[1]
                    if ended and status:
                        name = signal.Signals(status).name if os.WIFSIGNALED(status) else status
                        self.fault(fork.reader, fork.number, f"crash: {name}", "the process ended")
                    if fork.number + 1 < fork.last:
                        waiting.appendleft((fork.reader, fork.number + 1, fork.last))

    def start(self, reader: Reader, first: int, last: int) -> Fork:
        ours, theirs = multiprocessing.Pipe()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                self.read_mutations(theirs, reader, first, last)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        theirs.close()
        return Fork(pid, ours, reader, first, last)

    def receive(self, fork: Fork) -> bool:
        """Reads the messages of a fork; returns False if it has ended."""
        try:
            while fork.pipe.poll():
                message, *values = fork.pipe.recv()
                now = time.monotonic()
                self.seconds[fork.reader.name] += now - fork.since
                fork.since = now
                if message == "begin":
                    fork.number = values[0]
                elif message == "fault":
                    self.fault(fork.reader, fork.number, *values)
                else:
                    self.read += message == "read"
                    self.rejected += message == "rejected"
        except (EOFError, OSError):
            return False
        return True

    def fault(self, reader: Reader, number: int, place: str, details: str) -> None:
        key = (reader.name, place)
        self.faults[key] = self.faults.get(key, 0) + 1
        if self.faults[key] > 1:
            return
        print(f"{reader.name} {number}: {place}\n    {details[:300]!a}")
        print(
            f"    python -m tools.fuzz --seed {self.seed} --reader {reader.name} "
            f"--first {number} --mutations 1",
            flush=True,
        )
        if self.keep is not None:
            folder = self.keep / f"{reader.name}-{self.seed}-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            Input(folder, self.valid[reader.name]).damage(reader, self.seed, number)

    # === In a fork ===

    def read_mutations(self, pipe: Any, reader: Reader, first: int, last: int) -> None:
        warnings.simplefilter("ignore")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        folder = self.folder / f"{reader.name}-{os.getpid()}"
        damaged = Input(folder, self.valid[reader.name])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (pages + 2 * BYTES, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in range(first, last):
            pipe.send(("begin", number))
            damaged.damage(reader, self.seed, number)
            result: tuple[str, ...] = ("read",)
            try:
                reader.read(folder)
            except BertZooError as error:
                result = ("rejected",)
                message = str(error)
                if len(message) > MESSAGE_LIMIT:
                    result = ("fault", "a long message", f"{len(message):,} characters: {message}")
                elif any(map(_is_harmful, message)):
                    result = ("fault", f"an unprintable message: {_place(error)}", message)
            except BaseException as error:
                result = ("fault", f"{type(error).__name__}: {_place(error)}", str(error))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if peak - before > BYTES and result[0] != "fault":
                result = ("fault", "memory", f"{(peak - before) / 1e9:.1f} GB")
            pipe.send(result)
            if peak - before > BYTES / 4:
                break  # the peak of a process never falls; a new fork continues
            damaged.restore()
        damaged.remove()


def _is_harmful(character: str) -> bool:
    """Whether a character is a control or bidirectional character, or a surrogate."""
    bidirectional = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    return bidirectional or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _place(error: BaseException) -> str:
    """The last line of the package in the traceback, or the last line of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/keras_bert_zoo/" in frame.filename] or frames
    path = ours[-1].filename.rpartition("/keras_bert_zoo/")[2]
    return f"{path}:{ours[-1].lineno}"


class Input:
    """The directory of a reader's input, which is damaged and restored."""

    def __init__(self, folder: Path, valid: dict[str, bytes]) -> None:
        self.folder, self.valid = folder, valid
        self.damaged = list(valid)
        shutil.rmtree(folder, ignore_errors=True)
        self.restore()

    def restore(self) -> None:
        for name in self.damaged:
            path = self.folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.valid[name])

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def damage(self, reader: Reader, seed: int, number: int) -> None:
        chance = random.Random(f"{seed}/{reader.name}/{number}")
        names = [name for name in self.valid if Path(name).match(reader.files)]
        self.damaged = chance.sample(names, min(len(names), chance.choice((1, 1, 1, 2))))
        for name in self.damaged:
            path = self.folder / name
            if chance.random() < 0.02:
                self._replace(path, chance, pipes=reader.pipes)
            else:
                path.write_bytes(mutate(self.valid[name], chance))

    def _replace(self, path: Path, chance: random.Random, *, pipes: bool) -> None:
        """Replaces a file by something else."""
        path.unlink()
        way = chance.randrange(9)
        if way == 0:
            path.mkdir()
        elif way == 1 and pipes:
            os.mkfifo(path)
        elif way == 2:
            path.symlink_to(chance.choice((path.name, "/dev/zero", "/dev/null", "/", "missing")))
        elif way == 3:
            path.write_bytes(b"")
        elif way == 4:
            with open(path, "wb") as file:
                file.truncate(SPARSE)
        elif way == 5:
            other = chance.choice(sorted(self.valid))
            path.write_bytes(self.valid[other])
        elif way == 6:
            path.write_bytes(self.valid[os.fspath(path.relative_to(self.folder))])
            path.chmod(stat.S_IWUSR)
        elif way == 7:
            path.write_bytes(chance.randbytes(chance.choice((1, 100, 10_000))))


if __name__ == "__main__":
    sys.exit(main())
