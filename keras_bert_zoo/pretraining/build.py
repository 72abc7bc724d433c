"""Builds pretraining data from text files: two phases, parallel and restartable."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras_bert_zoo.data.masking_options import Masking
from keras_bert_zoo.directories.locking import locked_directory
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.files import read_json
from keras_bert_zoo.pretraining.beam import COUNTS_FILE, run_pipeline
from keras_bert_zoo.pretraining.beam_options import check_runner
from keras_bert_zoo.pretraining.build_options import BuildOptions, checked_options
from keras_bert_zoo.pretraining.corpus import CorpusFile, corpus_files
from keras_bert_zoo.pretraining.dataset import (
    DATASET_FILE,
    TOKENIZER_FOLDER,
    PretrainingData,
    Shard,
    hash_tokenizer,
    write_json_atomically,
)
from keras_bert_zoo.pretraining.workers import WORK_FOLDER, Workers, chunks_of, not_written
from keras_bert_zoo.text.registry import load_tokenizer_directory
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = ["Build", "Progress", "build_pretraining_data"]

Progress = Callable[[str, int, int, int], None]
"""Receives the phase ("text" or "shards"), and what is done: bytes of files or shards, the total,
and the characters of text so far."""


def build_pretraining_data(
    files: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    tokenizer: Tokenizer | str | os.PathLike[str],
    *,
    max_length: int = 128,
    pairs: str = "none",
    sentences: str | None = None,
    short_share: float | None = None,
    crosses_documents: bool = False,
    pack_examples: bool = False,
    masking: Masking | None = None,
    copies: int = 1,
    word_boundaries: str = "vocabulary",
    heldout: float = 0.01,
    shards: int | None = None,
    compress: bool = False,
    documents: str = "blank-line",
    text_field: str | None = None,
    encoding: str = "utf-8",
    processes: int = 1,
    runner: str | None = None,
    runner_options: Sequence[str] = (),
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PretrainingData:
    """Converts text files to TFRecord files of pretraining examples.

    The records depend on the texts, the options and the seed, and not on the number of processes.
    Memory does not grow with the texts: they are tokenized in chunks, whose tokens are sorted to
    shards on disk. Repeated documents are dropped. A build that was killed goes on when it is
    started again with the same options. `statistics` of the result accounts for every token.

    Args:
        files: names or patterns; see `corpus.corpus_files`.
        output: path of a directory; missing, empty, or an unfinished or equal build.
        tokenizer: Tokenizer, or the path of its directory.
        max_length: int, tokens of an example, with special tokens; at least 8.
        pairs: "none": examples are consecutive sentences; "next_sentence": half of the second
            segments are random ones from other documents; "sentence_order": half of the pairs are
            swapped.
        sentences: how lines are split: "lines" (not at all), "rules", or "module:function"; see
            `sentences.sentence_splitter`. None: "lines" without pairs, otherwise "rules".
        short_share: float in [0, 1). The share of shorter examples; None: 0 without pairs,
            otherwise 0.1, as in Google's code.
        crosses_documents: bool. Whether examples without pairs may contain the end of a document
            and the beginning of the next one.
        pack_examples: bool. Whether a record has several short examples, up to `max_length` tokens.
            Not with pairs. No example sees another one, and positions restart. A model reads fewer
            and longer rows.
        masking: Masking, to mask tokens now; None: they are masked in each epoch anew.
        copies: int. How often the documents are divided into examples, with other random choices.
        word_boundaries: "vocabulary"; or "spaces" or "jieba", to store where words begin in
            languages that do not separate them.
        heldout: float in [0, 1). The share of documents in the held-out shards.
        shards: int. Number of training shards; None: one per 32 MB of text.
        compress: bool. Whether shards are compressed with gzip.
        documents: how documents are separated; see `corpus.read_documents`.
        text_field: str or None. The key of the text in JSON; None means "text".
        encoding: str. The encoding of the files.
        processes: int. Processes that work at the same time. A script that passes more than 1
            needs `if __name__ == "__main__":`.
        runner: str or None. The name of an Apache Beam runner, such as "DirectRunner", which runs
            the build instead of `processes`. All workers need the files and the output at the same
            paths. It does not go on after an interruption, but starts again.
        runner_options: flags of the Beam pipeline, such as "--direct_num_workers=2".
        seed: int.
        overwrite: bool. Whether to replace a build with other options.
        progress: see `Progress`; None: no report.

    Returns:
        PretrainingData.

    Raises:
        ConfigError: an option is out of range, a package is not installed, or another process
            builds in this directory.
        DataError: a file cannot be read, the output cannot be written or is another build, or the
            texts have no token.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = build_pretraining_data(
        ...         ["tests/assets/pretraining/two_documents.txt"], folder + "/data",
        ...         "tests/assets/masked_lm", heldout=0.0, max_length=32,
        ...     )
        ...     data.train[0].examples
        2
    """
    check_runner(runner, runner_options)
    loaded = tokenizer if isinstance(tokenizer, Tokenizer) else load_tokenizer_directory(tokenizer)
    corpus = corpus_files(files)
    options = checked_options(
        corpus, loaded, max_length=max_length, pairs=pairs, sentences=sentences,
        short_share=short_share, crosses_documents=crosses_documents, masking=masking,
        pack_examples=pack_examples, copies=copies, word_boundaries=word_boundaries,
        heldout=heldout, shards=shards, compress=compress, documents=documents,
        text_field=text_field, encoding=encoding, processes=processes, seed=seed,
    )  # fmt: skip
    build = Build(Path(output), corpus, loaded, options, progress or _silent)
    with locked_directory(output, "another build"):
        finished = build.prepare(overwrite=overwrite)
        if finished is not None:
            return finished
        if runner is not None:
            build.run_pipeline(runner, runner_options)
        else:
            with Workers(build.directory, options, loaded, processes) as workers:
                build.spill(workers)
                build.make_shards(workers)
        return build.finish()


def _silent(phase: str, done: int, total: int, characters: int) -> None:
    """Reports nothing."""


class Build:
    """The files of a build."""

    def __init__(
        self,
        directory: Path,
        corpus: Sequence[CorpusFile],
        tokenizer: Tokenizer,
        options: BuildOptions,
        progress: Progress,
    ) -> None:
        self.directory = directory
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.options = options
        self.progress = progress
        self.work = directory / WORK_FOLDER
        plain = asdict(options) | {
            "files": [
                [str(file.path), file.bytes, os.stat(file.path).st_mtime_ns] for file in corpus
            ],
            "tokenizer": hash_tokenizer(tokenizer),
        }
        self.plain: dict[str, Any] = json.loads(json.dumps(plain))
        text = json.dumps(self.plain, sort_keys=True)
        self.hash = hashlib.sha256(text.encode()).hexdigest()

    def prepare(self, *, overwrite: bool) -> PretrainingData | None:
        """Creates the folders; returns the data if this build is already complete."""
        earlier = self._earlier_hash()
        if earlier is not None and earlier != self.hash:
            if not overwrite:
                raise DataError(
                    f"expected an empty directory or the same build in {self.directory}, received "
                    "pretraining data of other texts or options: choose another directory, or "
                    "overwrite it"
                )
            self._remove()
        elif earlier is None and self.directory.is_dir() and any(self.directory.iterdir()):
            raise DataError(
                f"expected an empty directory for pretraining data, but {self.directory} has other "
                "files: choose another one"
            )
        if (self.directory / DATASET_FILE).is_file():
            return PretrainingData.open(self.directory)
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            write_json_atomically(self.work / "options.json", {"hash": self.hash})
            if not (self.directory / TOKENIZER_FOLDER).is_dir():
                aside = self.work / TOKENIZER_FOLDER
                shutil.rmtree(aside, ignore_errors=True)
                self.tokenizer.save(aside)
                os.rename(aside, self.directory / TOKENIZER_FOLDER)
        except OSError as error:
            raise not_written(self.directory, error) from error
        return None

    def _earlier_hash(self) -> str | None:
        for path in (self.directory / DATASET_FILE, self.work / "options.json"):
            if path.is_file():
                values = read_json(path)
                values = values.get("options", values)
                return str(values.get("hash"))
        return None

    def _remove(self) -> None:
        """Removes an earlier build, its description first."""
        (self.directory / DATASET_FILE).unlink(missing_ok=True)
        for path in self.directory.glob("*-?????-of-?????.tfrecord*"):
            path.unlink()
        shutil.rmtree(self.directory / TOKENIZER_FOLDER, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def run_pipeline(self, runner: str, runner_options: Sequence[str]) -> None:
        """Both phases as a pipeline."""
        run_pipeline(
            self.corpus,
            self.directory,
            self.options,
            self.names(),
            runner=runner,
            runner_options=runner_options,
        )

    def spill(self, workers: Workers) -> None:
        """The first phase: tokenizes all chunks that are not on disk yet."""
        marker = self.work / COUNTS_FILE
        if marker.is_file():
            return
        total = sum(file.bytes for file in self.corpus)
        counted = {"files": len(self.corpus), "bytes": total, "documents": 0, "characters": 0}
        done = 0
        for number, file in enumerate(self.corpus):
            for place, chunk in enumerate(chunks_of(file, self.options)):
                counted["documents"] += len(chunk)
                counted["characters"] += sum(len(line) for lines in chunk for line in lines)
                folder = self.work / f"chunk-{number:06d}-{place:06d}"
                if not folder.is_dir():
                    workers.start("spill", chunk, str(folder))
                self.progress("text", done, total, counted["characters"])
            done += file.bytes
        workers.finish()
        self.progress("text", total, total, counted["characters"])
        self._check_texts(counted)
        try:
            write_json_atomically(marker, counted)
        except OSError as error:
            raise not_written(marker, error) from error

    def _check_texts(self, counted: dict[str, Any]) -> None:
        if not counted["documents"]:
            raise DataError(
                f"expected texts in {len(self.corpus)} files, such as {self.corpus[0].path}, but "
                "all lines are empty"
            )

    def make_shards(self, workers: Workers) -> None:
        """The second phase: writes all shards that are not on disk yet."""
        names = self.names()
        for number, name in enumerate(names):
            counts = self.work / f"{name}.json"
            if not (counts.is_file() and (self.directory / name).is_file()):
                workers.start("shard", number, name)
            self.progress("shards", number, len(names), 0)
        workers.finish()
        self.progress("shards", len(names), len(names), 0)

    def names(self) -> list[str]:
        """The names of all shards, the held-out ones last."""
        partition = self.options.partition
        end = ".tfrecord.gz" if self.options.compress else ".tfrecord"
        return [
            f"{split}-{number:05d}-of-{count:05d}{end}"
            for split, count in (("train", partition.train), ("heldout", partition.heldout))
            for number in range(count)
        ]

    def finish(self) -> PretrainingData:
        """Writes the description and removes the working files."""
        options = self.options
        statistics: dict[str, Any] = dict(read_json(self.work / COUNTS_FILE))
        self._check_texts(statistics)
        shards: dict[str, list[Shard]] = {"train": [], "heldout": []}
        for name in self.names():
            result = read_json(self.work / f"{name}.json")
            split = name.split("-")[0]
            shards[split].append(Shard(**result["shard"]))
            statistics[split] = _sum(statistics.get(split, {}), result["counts"])
        if not any(shard.examples for shard in shards["train"]):
            raise DataError("expected texts with tokens for training, but there are none")
        data = PretrainingData(
            directory=self.directory,
            tokenizer_hash=hash_tokenizer(self.tokenizer),
            vocabulary_size=self.tokenizer.vocabulary_size,
            max_length=options.shard.max_length,
            pairs=options.shard.pairs,
            static_masks=options.shard.masking is not None,
            word_boundaries=options.word_boundaries != "vocabulary"
            and options.shard.masking is None,
            train=tuple(shards["train"]),
            heldout=tuple(shards["heldout"]),
            statistics=statistics,
            options={**self.plain, "hash": self.hash},
        )
        try:
            data.write()
        except OSError as error:
            raise not_written(self.directory, error) from error
        for part in self.directory.glob("*-?????-of-?????.tfrecord*.part"):  # of killed processes
            part.unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)
        return data


def _sum(total: dict[str, Any], counts: dict[str, Any]) -> dict[str, Any]:
    """Adds counts, which may be lists or dicts of counts."""
    result = dict(total)
    for name, value in counts.items():
        before = result.get(name)
        if isinstance(value, dict):
            result[name] = _sum(before or {}, value)
        elif isinstance(value, list):
            result[name] = [a + b for a, b in zip(before or [0] * len(value), value, strict=True)]
        else:
            result[name] = (before or 0) + value
    return result
