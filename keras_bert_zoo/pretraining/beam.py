"""The build of pretraining data as an Apache Beam pipeline, for corpora beyond one machine.

The steps call the functions of the local build, so they write the same records. Instead of spilled
files, the runner groups the tokens of documents by shard.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_bert_zoo.pretraining.build_options import BuildOptions
from keras_bert_zoo.pretraining.corpus import CorpusFile
from keras_bert_zoo.pretraining.dataset import write_json_atomically
from keras_bert_zoo.pretraining.spill import Documents, joined
from keras_bert_zoo.pretraining.workers import WORK_FOLDER, Work, chunks_of, not_written

__all__ = ["COUNTS_FILE", "add_steps", "run_pipeline"]

COUNTS_FILE = "spilled.json"
"""The counts of the first phase, in the folder of an unfinished build."""

_COUNTS = ("documents", "characters")


def add_steps(
    pipeline: Any,
    corpus: Sequence[CorpusFile],
    directory: Path,
    options: BuildOptions,
    names: Sequence[str],
) -> Any:
    """Adds the steps of a build to a pipeline: files -> documents -> shards.

    Args:
        pipeline: apache_beam.Pipeline.
        corpus: the files, which all workers can read.
        directory: Path. The output, which all workers can write, with the tokenizer's files.
        options: BuildOptions.
        names: the names of all shards.

    Returns:
        PCollection of the names of the written shards.
    """
    import apache_beam as beam

    place = str(directory)
    # Chunks, so that the files of a few workers are tokenized by all.
    chunks = (
        pipeline
        | "Files" >> beam.Create(list(corpus), reshuffle=True)
        | "Read" >> beam.FlatMap(functools.partial(_read, options=options))
        | "Spread" >> beam.Reshuffle()
    )
    _ = (
        chunks
        | "Count" >> beam.Map(_counts)
        | "Sum" >> beam.CombineGlobally(_added)
        | "WriteCounts"
        >> beam.Map(functools.partial(_write_counts, corpus=list(corpus), place=place))
    )
    documents = chunks | "Tokenize" >> beam.FlatMap(
        functools.partial(_tokenize, place=place, options=options)
    )
    # A shard without documents is written, too.
    every = pipeline | "Shards" >> beam.Create([(number, None) for number in range(len(names))])
    return (
        (documents, every)
        | "Join" >> beam.Flatten()
        | "ByShard" >> beam.GroupByKey()
        | "Write"
        >> beam.Map(
            functools.partial(_write_shard, place=place, options=options, names=list(names))
        )
    )


def run_pipeline(
    corpus: Sequence[CorpusFile],
    directory: Path,
    options: BuildOptions,
    names: Sequence[str],
    *,
    runner: str,
    runner_options: Sequence[str] = (),
) -> None:
    """Runs a build on a runner, and waits for it.

    Args:
        corpus: the files.
        directory: Path. The output.
        options: BuildOptions.
        names: the names of all shards.
        runner: str. The name of a runner, such as "DirectRunner" or "FlinkRunner".
        runner_options: flags of the pipeline, such as "--direct_num_workers=2".
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = [f"--runner={runner}", *runner_options]
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        add_steps(pipeline, corpus, directory, options, names)


@functools.lru_cache(maxsize=2)
def _work(place: str, options: BuildOptions) -> Work:
    """The tokenizer of a worker, which is loaded once."""
    return Work(Path(place), options)


def _read(file: CorpusFile, options: BuildOptions) -> Iterator[list[list[str]]]:
    return chunks_of(file, options)


def _counts(chunk: list[list[str]]) -> tuple[int, int]:
    return len(chunk), sum(len(line) for document in chunk for line in document)


def _added(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    documents = characters = 0
    for more_documents, more_characters in counts:
        documents += more_documents
        characters += more_characters
    return documents, characters


def _write_counts(counts: tuple[int, int], corpus: list[CorpusFile], place: str) -> None:
    size = sum(file.bytes for file in corpus)
    values = {"files": len(corpus), "bytes": size} | dict(zip(_COUNTS, counts, strict=True))
    path = Path(place) / WORK_FOLDER / COUNTS_FILE
    try:
        write_json_atomically(path, values)
    except OSError as error:
        raise not_written(path, error) from error


def _tokenize(
    chunk: list[list[str]], place: str, options: BuildOptions
) -> Iterator[tuple[int, Documents]]:
    return _work(place, options).spiller.by_shard(chunk)


def _write_shard(
    element: tuple[int, Iterable[Documents | None]],
    place: str,
    options: BuildOptions,
    names: list[str],
) -> str:
    number, parts = element
    documents = joined([part for part in parts if part is not None])
    _work(place, options).write_shard(number, names[number], documents)
    return names[number]
