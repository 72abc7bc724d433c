"""Pretraining data: records, their independence of processes, and accounts of tokens."""

import dataclasses
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.cli.main import main
from keras_bert_zoo.data.masking_options import Masking
from keras_bert_zoo.directories.locking import locked_directory
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.pretraining.build import build_pretraining_data
from keras_bert_zoo.pretraining.dataset import PretrainingData
from keras_bert_zoo.pretraining.records import read_records
from keras_bert_zoo.pretraining.word_begins import word_finder
from keras_bert_zoo.pretraining.workers import WORK_FOLDER

PAGES = sorted(Path("docs").glob("*.md"))[:12]
PRESET = "minilm_l6_en_uncased"


@pytest.fixture(scope="module")
def tokenizer():
    return kbz.Tokenizer.from_preset(PRESET)


def build(output, tokenizer, files=PAGES, **options):
    return build_pretraining_data(files, output, tokenizer, **{"shards": 3, **options})


def records_of(data, split="train"):
    return [
        record
        for shard in getattr(data, split)
        for record in read_records(data.directory / shard.name)
    ]


def files_of(data):
    shards = (*data.train, *data.heldout)
    return {shard.name: (data.directory / shard.name).read_bytes() for shard in shards}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tokenizer):
    return build(tmp_path_factory.mktemp("plain") / "data", tokenizer, heldout=0.1)


@pytest.fixture(scope="module")
def next_sentence(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("pairs") / "data"
    return build(folder, tokenizer, pairs="next_sentence", max_length=64)


def paragraphs():
    """The documents of the files, each once."""
    texts = []
    for page in PAGES:
        texts += [
            "\n".join(line for line in part)
            for blank, part in itertools.groupby(
                page.read_text("utf-8").split("\n"), key=lambda line: not line.strip()
            )
            if not blank
        ]
    return list(dict.fromkeys(texts))


def test_examples_have_all_tokens_of_the_texts(plain, tokenizer):
    lines = [line for text in paragraphs() for line in text.split("\n")]
    expected = np.sort(tokenizer.tokenize(lines).values.numpy())
    records = records_of(plain) + records_of(plain, "heldout")
    got = np.sort(np.concatenate([record["token_ids"][1:-1] for record in records]))
    np.testing.assert_array_equal(got, expected)
    for record in records:
        ids = record["token_ids"]
        assert len(ids) <= plain.max_length == 128
        assert (ids[0], ids[-1]) == (tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]"))
        assert record["first_length"] == [len(ids)]


def test_the_statistics_account_for_every_token(plain, tokenizer):
    total = sum(
        len(row)
        for page in PAGES
        for row in tokenizer.tokenize(page.read_text("utf-8").split("\n")).to_list()
    )
    counts = [plain.statistics[split] for split in ("train", "heldout")]
    assert sum(c["tokens"] for c in counts) == total
    for part in counts:
        assert part["tokens"] == part["new_tokens"] + sum(part["dropped_tokens"].values())
    assert plain.statistics["files"] == len(PAGES)
    repeats = sum(c["duplicate_documents"] for c in counts)
    assert sum(c["documents"] for c in counts) - repeats == len(paragraphs())
    assert repeats  # fences and headings
    for shard in plain.train:
        lengths = [len(r["token_ids"]) for r in read_records(plain.directory / shard.name)]
        assert (shard.examples, shard.tokens, shard.longest) == (
            len(lengths), sum(lengths), max(lengths),
        )  # fmt: skip


def test_heldout_documents_are_in_no_training_shard(plain):
    train = {tuple(record["token_ids"]) for record in records_of(plain)}
    heldout = [tuple(record["token_ids"]) for record in records_of(plain, "heldout")]
    assert heldout
    assert not train & set(heldout)
    share = plain.statistics["heldout"]["documents"] / plain.statistics["documents"]
    assert abs(share - 0.1) < 4 * math.sqrt(0.1 * 0.9 / len(paragraphs())) + 0.02


def test_two_processes_write_the_same_records(plain, tmp_path, tokenizer):
    data = build(tmp_path / "data", tokenizer, heldout=0.1, processes=2)
    assert files_of(data) == files_of(plain)
    assert data.statistics == plain.statistics


def test_a_build_goes_on_where_it_was(plain, tmp_path, tokenizer):
    """Stops after the first phase, then after a shard; nothing is made twice."""

    class Stopped(Exception):
        pass

    def stop_at(wanted):
        def progress(phase, done, total, characters):
            if (phase, done) == wanted:
                raise Stopped

        return progress

    for wanted in (("shards", 0), ("shards", 2)):
        with pytest.raises(Stopped):
            build(tmp_path / "data", tokenizer, heldout=0.1, progress=stop_at(wanted))
        with pytest.raises(DataError, match="run an interrupted build again"):
            PretrainingData.open(tmp_path / "data")
    first = tmp_path / "data" / plain.train[0].name
    written = first.stat().st_mtime_ns
    data = build(tmp_path / "data", tokenizer, heldout=0.1)
    assert first.stat().st_mtime_ns == written
    assert files_of(data) == files_of(plain)
    assert not (tmp_path / "data" / WORK_FOLDER).exists()
    again = build(tmp_path / "data", tokenizer, heldout=0.1)  # nothing is left to do
    assert again == data


@pytest.mark.slow
def test_killed_builds_write_the_same_records(plain, tmp_path, tokenizer):
    script = (
        "import sys; from tests.pretraining.test_build import *\n"
        "if __name__ == '__main__':\n"
        "    build(sys.argv[1], kbz.Tokenizer.from_preset(PRESET), heldout=0.1, processes=2)"
    )
    for number in range(10):
        folder = tmp_path / f"data{number}"
        process = subprocess.Popen([sys.executable, "-c", script, folder], start_new_session=True)
        deadline = time.monotonic() + 120
        while not (folder / WORK_FOLDER).exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5 * number)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert files_of(build(folder, tokenizer, heldout=0.1)) == files_of(plain)


def test_pairs_of_next_sentences(next_sentence, tokenizer):
    records = records_of(next_sentence)
    labels = np.array([record["pair_label"][0] for record in records])
    assert next_sentence.statistics["train"]["pair_labels"] == [
        (labels == 0).sum(), (labels == 1).sum(),
    ]  # fmt: skip
    assert abs(labels.mean() - 0.5) < 4 * 0.5 / math.sqrt(len(labels))
    sep = tokenizer.token_to_id("[SEP]")
    text = _marked(tokenizer)
    for record in records:
        ids = record["token_ids"]
        middle = record["first_length"][0]
        assert len(ids) <= 64
        assert ids[middle - 1] == ids[-1] == sep
        first, second = ids[1 : middle - 1], ids[middle:-1]
        assert first
        assert second
        if record["pair_label"] == [0]:  # the segments follow each other in a document
            assert _key([*first, *second]) in text
        assert _key(first) in text


def _key(ids):
    return " " + " ".join(map(str, ids)) + " "


def _marked(tokenizer):
    """The tokens of all documents as text."""
    rows = [
        np.concatenate([*map(np.array, tokenizer.tokenize(text.split("\n")).to_list()), []])
        for text in paragraphs()
    ]
    return "|".join(_key(row.astype(int)) for row in rows)


def test_swapped_pairs(tmp_path, tokenizer):
    data = build(tmp_path / "data", tokenizer, pairs="sentence_order", max_length=48)
    records = records_of(data)
    text = _marked(tokenizer)
    labels = []
    for record in records:
        ids, middle = record["token_ids"], record["first_length"][0]
        first, second = ids[1 : middle - 1], ids[middle:-1]
        if record["pair_label"] == [1]:
            first, second = second, first
        assert _key([*first, *second]) in text
        labels.append(record["pair_label"][0])
    assert abs(np.mean(labels) - 0.5) < 4 * 0.5 / math.sqrt(len(labels))
    counts = data.statistics["train"]
    assert counts["repeated_tokens"] == 0
    assert counts["tokens"] == counts["new_tokens"] + sum(counts["dropped_tokens"].values())


def test_static_masks_keep_the_shares(tmp_path, tokenizer):
    data = build(tmp_path / "data", tokenizer, masking=Masking(), copies=2)
    mask, kinds, words = tokenizer.mask_token_id, [0, 0, 0], 0
    for record in records_of(data):
        ids = record["token_ids"]
        words += len(ids) - 2
        assert record["masked_positions"]
        for column, token in zip(
            record["masked_positions"], record["masked_token_ids"], strict=True
        ):
            kind = 0 if ids[column] == mask else 2 if ids[column] == token else 1
            kinds[kind] += 1
    masked = sum(kinds)
    assert masked == data.statistics["train"]["masked_tokens"]
    # Rows of few tokens have at least one mask, so the share is a little higher.
    assert abs(masked / words - 0.15) < 4 * math.sqrt(0.15 * 0.85 / words) + 0.02
    for count, share in zip(kinds, (0.8, 0.1, 0.1), strict=True):
        assert abs(count / masked - share) < 4 * math.sqrt(share * (1 - share) / masked)
    single = build(tmp_path / "one", tokenizer)
    counts = data.statistics["train"]
    assert counts["examples"] == 2 * single.statistics["train"]["examples"]


def test_word_begins_of_chinese(tmp_path):
    tokenizer = kbz.Tokenizer.from_preset("tests/assets/masked_lm")
    characters = [t for t in tokenizer.vocabulary if len(t) == 1][:6]
    (tmp_path / "text.txt").write_text(
        " ".join(characters[:3]) + "\n" + "".join(characters[:2]) + " " + "".join(characters[2:4])
    )
    data = build(
        tmp_path / "data", tokenizer, [tmp_path / "text.txt"], word_boundaries="spaces",
        max_length=16, heldout=0.0, shards=1,
    )  # fmt: skip
    assert data.word_boundaries
    (record,) = records_of(data)
    begins = record["word_begins"]
    assert begins == sorted(begins)
    assert begins[:3] == [1, 2, 3]
    assert word_finder("jieba")("我来到北京清华大学") == ["我", "来到", "北京", "清华大学"]


def test_examples_across_documents_are_full(tmp_path, tokenizer):
    data = build(tmp_path / "data", tokenizer, crosses_documents=True, heldout=0.0)
    lengths = [len(record["token_ids"]) for record in records_of(data)]
    assert np.mean(lengths) > 0.85 * 128


def test_wrong_options_and_folders_are_refused(plain, tmp_path, tokenizer):
    for options, words in (
        ({"pairs": "other"}, "expected `pairs`"),
        ({"max_length": 4}, "max_length"),
        ({"heldout": 1.0}, r"expected `heldout` to be in \[0, 1\)"),
        ({"crosses_documents": True, "pairs": "next_sentence"}, "a pair is of one document"),
        ({"word_boundaries": "other"}, "word_boundaries"),
        ({"sentences": "no_such_module:f"}, "no_such_module"),
    ):
        with pytest.raises((ConfigError, DataError), match=words):
            build(tmp_path / "data", tokenizer, **options)
    assert not (tmp_path / "data").exists()
    with pytest.raises(DataError, match="other texts or options"):
        build(plain.directory, tokenizer, max_length=64)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(DataError, match="has other files"):
        build(tmp_path / "full", tokenizer)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(DataError, match="all lines are empty"):
        build(tmp_path / "none", tokenizer, [tmp_path / "empty.txt"])
    (tmp_path / "bad.txt").write_bytes(b"a line\n\xff\xfe broken")
    with pytest.raises(DataError, match=r"bad\.txt:2"):
        build(tmp_path / "broken", tokenizer, [tmp_path / "bad.txt"])


def test_the_command(tmp_path, capsys):
    arguments = [
        "pretraining-data", "--texts", "tests/assets/pretraining/two_documents.txt",
        "--tokenizer", "tests/assets/masked_lm", "--output", str(tmp_path / "data"),
        "--heldout", "0", "--max-length", "32", "--json",
    ]  # fmt: skip
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["train"], result["heldout"]) == (2, 0)
    data = PretrainingData.open(tmp_path / "data")
    assert dataclasses.asdict(data)["max_length"] == 32
    assert main([*arguments, "--pairs", "sentence_order"]) == 2
    assert "other texts or options" in capsys.readouterr().err
    assert main([*arguments, "--pairs", "sentence_order", "--overwrite"]) == 0
    assert PretrainingData.open(tmp_path / "data").pairs == "sentence_order"


@pytest.mark.parity
def test_a_beam_pipeline_writes_the_same_records(plain, next_sentence, tmp_path, tokenizer):
    pytest.importorskip("apache_beam", reason="needs the extra beam")
    for data, options in (
        (plain, {"heldout": 0.1}),
        (next_sentence, {"pairs": "next_sentence", "max_length": 64}),
    ):
        folder = tmp_path / data.pairs
        made = build(folder, tokenizer, runner="DirectRunner", **options)
        assert files_of(made) == files_of(data)
        assert made.statistics == data.statistics
        assert not (folder / WORK_FOLDER).exists()


def test_a_runner_needs_beam(tmp_path, tokenizer, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'keras_bert_zoo\[beam\]'"):
        build(tmp_path / "data", tokenizer, runner="DirectRunner")
    with pytest.raises(ConfigError, match="without a runner"):
        build(tmp_path / "data", tokenizer, runner_options=["--streaming"])
    assert not (tmp_path / "data").exists()


def test_shards_without_documents_are_written(tmp_path, tokenizer):
    data = build(
        tmp_path / "data", tokenizer, ["tests/assets/pretraining/two_documents.txt"], heldout=0.0
    )
    assert sorted(shard.examples for shard in data.train)[0] == 0
    assert len(records_of(data)) == 2
    assert data.statistics["train"]["new_tokens"] == data.statistics["train"]["tokens"] > 0


def test_shares_of_masks(tmp_path, tokenizer):
    data = build(
        tmp_path / "data", tokenizer, PAGES[:2],
        masking=Masking(rate=0.3, mask_share=0.0, random_share=0.0),
    )  # fmt: skip
    for record in records_of(data):  # all masked tokens are as they were
        chosen = [record["token_ids"][column] for column in record["masked_positions"]]
        assert chosen == record["masked_token_ids"]
    counts = data.statistics["train"]
    share = counts["masked_tokens"] / counts["new_tokens"]
    assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / counts["new_tokens"]) + 0.03


def test_static_masks_of_spans(tmp_path, tokenizer):
    """Most masked tokens of spans have a masked neighbour; of tokens that are drawn alone, few."""
    shares = []
    for name, masking in (("spans", Masking(span_mean=3.0)), ("alone", Masking())):
        data = build(tmp_path / name, tokenizer, PAGES[:2], masking=masking)
        together = total = 0
        for record in records_of(data):
            columns = set(record["masked_positions"])
            total += len(columns)
            together += sum(bool({c - 1, c + 1} & columns) for c in columns)
        shares.append(together / total)
    assert shares[0] > 0.6 > 0.45 > shares[1]


def test_one_process_builds_in_a_directory(tmp_path, tokenizer):
    with (
        locked_directory(tmp_path / "data", "another build"),
        pytest.raises(ConfigError, match="data: another build is running here"),
    ):
        build(tmp_path / "data", tokenizer)
    assert records_of(build(tmp_path / "data", tokenizer))


def test_changed_texts_are_another_build(tmp_path, tokenizer):
    text = tmp_path / "text.txt"
    text.write_text("one line\n\nsecond text\n")
    build(tmp_path / "data", tokenizer, [text], heldout=0.0, shards=1)
    text.write_text("two line\n\nsecond text\n")  # of the same size
    os.utime(text, ns=(0, 0))
    with pytest.raises(DataError, match="other texts or options"):
        build(tmp_path / "data", tokenizer, [text], heldout=0.0, shards=1)


def test_a_full_disk_is_one_line(tmp_path, tokenizer, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_bert_zoo.pretraining.spill.sync_tree", fail)
    with pytest.raises(DataError, match=r"chunk-.* cannot be written: No space left on device"):
        build(tmp_path / "data", tokenizer, PAGES[:1], heldout=0.0)
    monkeypatch.undo()
    monkeypatch.setattr("keras_bert_zoo.pretraining.records.sync_path", fail)
    with pytest.raises(DataError, match=r"tfrecord cannot be written: No space left on device"):
        build(tmp_path / "data", tokenizer, PAGES[:1], heldout=0.0)
    monkeypatch.undo()
    data = build(tmp_path / "data", tokenizer, PAGES[:1], heldout=0.0)  # goes on
    assert records_of(data)
    assert not list((tmp_path / "data").glob("*.part"))
