"""The work of a pretraining data build, in this process or in several others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.pretraining.build_options import BuildOptions
from keras_bert_zoo.pretraining.corpus import CorpusFile, read_documents
from keras_bert_zoo.pretraining.dataset import TOKENIZER_FOLDER, write_json_atomically
from keras_bert_zoo.pretraining.sentences import sentence_splitter
from keras_bert_zoo.pretraining.shard import ShardWriter
from keras_bert_zoo.pretraining.spill import Documents, Spiller, read_spilled
from keras_bert_zoo.pretraining.word_begins import word_finder
from keras_bert_zoo.text.registry import load_tokenizer_directory
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = ["WORK_FOLDER", "Work", "Workers", "chunks_of", "not_written"]

WORK_FOLDER = ".build"
"""The folder of an unfinished build in its output."""

_CHUNK_CHARACTERS = 1 << 22


def chunks_of(file: CorpusFile, options: BuildOptions) -> Iterator[list[list[str]]]:
    """Yields consecutive documents of a file, about 4 million characters at a time.

    Raises:
        DataError: the file cannot be read; see `corpus.read_documents`.
    """
    chunk: list[list[str]] = []
    characters = 0
    for document in read_documents(
        file, documents=options.documents, field=options.text_field, encoding=options.encoding
    ):
        chunk.append(document)
        characters += sum(map(len, document))
        if characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def not_written(path: Path, error: OSError) -> DataError:
    """The error of a file that cannot be written."""
    return DataError(f"{path} cannot be written: {error.strerror or error}")


class Work:
    """The work of a process, which loads the tokenizer once.

    Args:
        directory: Path. The output, with the tokenizer's files.
        options: BuildOptions.
        tokenizer: Tokenizer or None. None: loaded from the output.
    """

    def __init__(
        self, directory: Path, options: BuildOptions, tokenizer: Tokenizer | None = None
    ) -> None:
        self.directory = directory
        if tokenizer is None:
            tokenizer = load_tokenizer_directory(directory / TOKENIZER_FOLDER)
        split = None if options.sentences == "lines" else sentence_splitter(options.sentences)
        self.spiller = Spiller(
            tokenizer, split, options.partition, word_finder(options.word_boundaries)
        )
        self.writer = ShardWriter(tokenizer, options.shard)

    def spill(self, documents: list[list[str]], folder: str) -> None:
        """Tokenizes a chunk."""
        self.spiller.write(documents, Path(folder))

    def shard(self, number: int, name: str) -> None:
        """Writes a shard and its counts."""
        work = self.directory / WORK_FOLDER
        folders = sorted(path for path in work.glob("chunk-??????-??????") if path.is_dir())
        self.write_shard(number, name, read_spilled(folders, number))

    def write_shard(self, number: int, name: str, documents: Documents) -> None:
        """Writes a shard of the given documents, and its counts."""
        work = self.directory / WORK_FOLDER
        shard, counts = self.writer.write(documents, self.directory / name, number)
        try:
            write_json_atomically(work / f"{name}.json", {"shard": asdict(shard), "counts": counts})
        except OSError as error:
            raise not_written(work, error) from error


class Workers:
    """Runs work in this process, or in several others.

    Args:
        directory: Path. The output.
        options: BuildOptions.
        tokenizer: Tokenizer, for work in this process.
        processes: int. 1 means this process.
    """

    def __init__(
        self, directory: Path, options: BuildOptions, tokenizer: Tokenizer, processes: int
    ) -> None:
        self._tokenizer = tokenizer
        self._arguments = (directory, options)
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None
        self._futures: set[Future[None]] = set()
        self._work: Work | None = None

    def __enter__(self) -> Workers:
        if self._processes > 1:
            self._pool = ProcessPoolExecutor(
                self._processes,
                # TensorFlow's threads do not survive a fork.
                mp_context=get_context("spawn"),
                initializer=_start_process,
                initargs=self._arguments,
            )
        return self

    def __exit__(self, *_: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def start(self, name: str, *arguments: Any) -> None:
        """Starts a piece of work; waits while there is enough to do."""
        if self._pool is None:
            if self._work is None:
                self._work = Work(*self._arguments, self._tokenizer)
            getattr(self._work, name)(*arguments)
            return
        while len(self._futures) >= 2 * self._processes:
            self._collect(FIRST_COMPLETED)
        try:
            self._futures.add(self._pool.submit(_run_in_process, name, arguments))
        except BrokenProcessPool as error:
            raise _killed() from error

    def finish(self) -> None:
        """Waits for all work."""
        while self._futures:
            self._collect(FIRST_COMPLETED)

    def _collect(self, when: str) -> None:
        done, self._futures = wait(self._futures, return_when=when)
        for future in done:
            try:
                future.result()
            except BrokenProcessPool as error:
                raise _killed() from error


def _killed() -> DataError:
    return DataError(
        "a process of the build was killed, such as for lack of memory: start the build again, it "
        "goes on where it was; use fewer `processes`"
    )


_process_work: Work | None = None


def _start_process(directory: Path, options: BuildOptions) -> None:
    """Loads the tokenizer; called once in each process."""
    global _process_work
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    _process_work = Work(directory, options)


def _run_in_process(name: str, arguments: tuple[Any, ...]) -> None:
    getattr(_process_work, name)(*arguments)
