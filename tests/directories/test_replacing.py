"""Replacing a directory: kills, other processes, and what belongs to the user."""

import argparse
import errno
import gzip
import json
import logging
import os
import stat
import subprocess
import sys
import time

import pytest

from keras_bert_zoo.cli.output import check_outputs, written_file
from keras_bert_zoo.directories import hidden as hidden_module
from keras_bert_zoo.directories import renames, replacing
from keras_bert_zoo.directories.contents import MODEL_PARTS
from keras_bert_zoo.directories.hidden import discard, hidden_siblings, make_hidden
from keras_bert_zoo.directories.renames import exchange, rename_new
from keras_bert_zoo.directories.replacing import find_directory, replace_directory, sync_tree
from keras_bert_zoo.errors import CheckpointError, DataError
from keras_bert_zoo.files import SIDE_FILE


def write(path, text, **files):
    with replace_directory(path, CheckpointError, marker=SIDE_FILE) as aside:
        for name, content in {SIDE_FILE: "{}", "model.safetensors": text, **files}.items():
            (aside / name).write_text(content)


def model(path):
    return (path / "model.safetensors").read_text()


def names(path):
    return sorted(os.listdir(path))


@pytest.fixture(params=["exchange", "two steps"])
def way(request, monkeypatch):
    """Both ways to put a directory in place."""
    if request.param == "two steps":
        without_renames(monkeypatch)
    return request.param


def without_renames(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(renames, "_renameat2", refuse)


@pytest.mark.parametrize("options", [[], ["--two-steps"]], ids=["exchange", "two steps"])
def test_a_kill_at_any_line_leaves_the_old_or_the_new(options):
    """Every third line of the code; all of them: python -m tools.kills lines."""
    command = [sys.executable, "-m", "tools.kills", "lines", "--every", "3", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    assert figures["faults"] == []
    assert figures["kills"] > 80
    assert figures["found"].keys() == {"old", "new"}
    assert (figures["missing"] > 0) == bool(options), "an exchange never takes the name away"


def test_a_directory_is_replaced(way, tmp_path):
    write(tmp_path / "m", "one", **{"vocab.txt": "a"})
    write(tmp_path / "m", "two")
    assert model(tmp_path / "m") == "two"
    assert names(tmp_path / "m") == [SIDE_FILE, "model.safetensors"]
    assert names(tmp_path) == ["m"]


def test_ctrl_c_at_any_line_leaves_one_of_both(way, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    write(tmp_path / "m", "one")
    package = os.path.dirname(replacing.__file__)
    steps = {"_swapped", "_swap_in_two_steps", "exchange", "rename_new"}
    results, missing = set(), 0
    for line in range(1000):
        left = line

        def trace(frame, event, _):
            nonlocal left, missing
            if not frame.f_code.co_filename.startswith(package):
                return None
            if event == "line" and frame.f_code.co_name in steps:
                left -= 1
                if left == -1:
                    missing += not (tmp_path / "m").exists()
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            write(tmp_path / "m", "two")
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            sys.settrace(None)
        results.add(model(find_directory(tmp_path / "m")))
        write(tmp_path / "m", "one")
        for left_behind in hidden_siblings(tmp_path / "m"):  # Ctrl-C while they are removed
            discard(left_behind)
        assert names(tmp_path) == ["m"], f"line {line}"
    assert line > 20
    assert (missing > 0) == (way == "two steps"), "between the two renames, too"
    assert "one" in results


def test_files_of_the_user_are_kept(way, tmp_path):
    target = tmp_path / "m"
    write(target, "one", **{"vocab.txt": "a", "modules.json": "[]"})
    (target / "notes.txt").write_text("mine")
    (target / ".git" / "objects").mkdir(parents=True)
    (target / ".git" / "objects" / "x").write_text("mine")
    (target / "link").symlink_to("notes.txt")
    (target / "1_Pooling").mkdir()
    (target / "1_Pooling" / "config.json").write_text("{}")
    (target / "1_Pooling" / "why.txt").write_text("mine")
    (target / "script.sh").write_text("mine")
    (target / "script.sh").chmod(0o750)
    inode = (target / "notes.txt").stat().st_ino
    write(target, "two")
    assert names(target) == sorted(
        [".git", "1_Pooling", SIDE_FILE, "link", "model.safetensors", "notes.txt", "script.sh"]
    )
    assert (target / "notes.txt").stat().st_ino == inode, "linked, not copied"
    assert (target / ".git" / "objects" / "x").read_text() == "mine"
    assert os.readlink(target / "link") == "notes.txt"
    assert names(target / "1_Pooling") == ["why.txt"]
    assert stat.S_IMODE((target / "script.sh").stat().st_mode) == 0o750


def test_files_are_copied_where_links_are_not_possible(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    write(tmp_path / "m", "one")
    (tmp_path / "m" / "notes.txt").write_text("mine")
    monkeypatch.setattr(os, "link", refuse)
    write(tmp_path / "m", "two")
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "tf_model.h5", "adapter_config.json", "bert_config.json", "onnx"]
)
def test_other_weights_are_neither_kept_nor_deleted(tmp_path, name):
    write(tmp_path / "m", "one")
    (tmp_path / "m" / name).write_text("theirs")
    with pytest.raises(CheckpointError, match=f"it also has {name}, which .* Move it elsewhere"):
        write(tmp_path / "m", "two")
    assert model(tmp_path / "m") == "one"
    assert (tmp_path / "m" / name).read_text() == "theirs"


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt", "README.md", "best.weights.h5", "logs", "x.onnx.md", "1_Experiment", "2_Data",
        "1_Pooling_old", "pooling", "sentence_pairs_config.json", "sentence_my-run_config.json",
        "model-1-of-two.safetensors",
    ],
)  # fmt: skip
def test_what_is_no_part_of_a_model(name):
    assert not MODEL_PARTS.fullmatch(name)


# tests/conftest.py checks the files of every save in the tests.
@pytest.mark.parametrize(
    "name",
    [
        "1_Pooling", "1_WeightedLayerPooling", "2_Dense", "2_Normalize", "10_Normalize",
        "3_LayerNorm", "0_Transformer", "modules.json", "sentence_bert_config.json",
        "sentence_xlm-roberta_config.json", "config_sentence_transformers.json",
        "model-00001-of-00002.safetensors", "model.safetensors.index.json", "vocab.txt",
        "spiece.model", "reader", "retriever", "target_tokenizer", SIDE_FILE,
    ],
)  # fmt: skip
def test_what_is_a_part_of_a_model(name):
    assert MODEL_PARTS.fullmatch(name)


def test_folders_of_the_user_are_kept_whole(tmp_path):
    target = tmp_path / "m"
    write(target, "one")
    mine = [
        f"{folder}/{name}"
        for folder in ("1_Experiment", "reader", "retriever", "target_tokenizer", "2_data")
        for name in ("config.json", "model.safetensors", "deep/vocab.txt")
    ]
    mine += ["documents.jsonl", "sentence_pairs_config.json"]
    for name in mine:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text("mine")
    write(target, "two")
    assert model(target) == "two"
    assert [(target / name).read_text() for name in mine] == ["mine"] * len(mine)


def test_folders_of_an_earlier_model_go(tmp_path):
    target = tmp_path / "m"
    texts = {"passages.safetensors": "", "documents.jsonl": "", "generation_config.json": ""}
    write(target, "one", **texts)
    for folder in ("reader", "retriever", "target_tokenizer", "2_Dense"):
        (target / folder).mkdir()
        (target / folder / "config.json").write_text("{}")
    write(target, "two")
    assert names(target) == [SIDE_FILE, "model.safetensors"]


@pytest.mark.parametrize("mode", [0o700, 0o2775, 0o2750, 0o555])
def test_the_mode_is_kept(way, tmp_path, mode):
    target = tmp_path / "m"
    write(target, "one")
    target.chmod(mode)
    with replace_directory(target, CheckpointError, marker=SIDE_FILE) as aside:
        assert stat.S_IMODE(aside.stat().st_mode) == mode | 0o700, "private while it is written"
        (aside / SIDE_FILE).write_text("{}")
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert names(tmp_path) == ["m"]


def test_a_first_save_has_the_usual_mode(tmp_path, monkeypatch):
    (tmp_path / "usual").mkdir()
    (tmp_path / "usual.txt").touch()
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    (shared / "usual").mkdir()
    umask = os.umask
    monkeypatch.setattr(os, "umask", None)  # it is the process's: another thread would see it
    for folder in (tmp_path, shared):
        write(folder / "m", "one")
        assert (folder / "m").stat().st_mode == (folder / "usual").stat().st_mode
    made, descriptor = make_hidden(tmp_path / "file", directory=False)
    os.close(descriptor)
    assert made.path.stat().st_mode == (tmp_path / "usual.txt").stat().st_mode
    monkeypatch.setattr(os, "umask", umask)


def test_a_file_keeps_its_mode(tmp_path):
    (tmp_path / "answers").touch(mode=0o600)
    with written_file(os.fspath(tmp_path / "answers")) as file:
        file.write(b"new")
    assert stat.S_IMODE((tmp_path / "answers").stat().st_mode) == 0o600
    assert (tmp_path / "answers").read_bytes() == b"new"


def test_the_lock_lasts_until_the_earlier_directory_is_gone(way, tmp_path, monkeypatch):
    write(tmp_path / "m", "one")
    locked = []

    def record(hidden):
        if hidden.path.exists():
            locked.append((model(hidden.path), hidden_module.is_locked(hidden.path)))
        discard(hidden)

    monkeypatch.setattr(replacing, "discard", record)
    write(tmp_path / "m", "two")
    assert locked == [("one", True)]


def leave_a_swap(folder, kinds, *, host=None, process=None):
    """Creates the hidden directories of a process that was killed between two renames."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    token = f"{host or hidden_module.host_name()}-{process or dead.pid}-abcdefgh"
    for kind in kinds:
        path = folder / f".m.{kind}-{token}"
        path.mkdir()
        (path / SIDE_FILE).write_text("{}")
        (path / "model.safetensors").write_text(kind)


@pytest.mark.parametrize(
    ("kinds", "result"), [(("old", "new"), "new"), (("old",), "old")], ids=["both", "one"]
)
def test_an_interrupted_swap_is_finished(tmp_path, caplog, kinds, result):
    leave_a_swap(tmp_path, kinds)
    assert find_directory(tmp_path / "m") == tmp_path / "m"
    assert model(tmp_path / "m") == result
    assert f"The complete {'new' if result == 'new' else 'earlier'} directory was" in caplog.text
    assert names(tmp_path) == ["m"]


def test_an_interrupted_swap_behind_a_link_is_finished(tmp_path):
    (tmp_path / "link").symlink_to("m")
    leave_a_swap(tmp_path, ["old", "new"])
    assert model(find_directory(tmp_path / "link")) == "new"
    assert (tmp_path / "link").is_symlink()


def test_half_a_first_save_is_not_found(tmp_path):
    leave_a_swap(tmp_path, ["new"])
    assert not find_directory(tmp_path / "m").exists()
    write(tmp_path / "m", "two")
    assert names(tmp_path) == ["m"]


@pytest.mark.parametrize("owner", ["alive", "elsewhere"])
def test_a_swap_of_a_process_that_may_live_is_not_touched(tmp_path, caplog, monkeypatch, owner):
    monkeypatch.setattr(replacing, "_SWAP_SECONDS", 0.05)
    host, process = (None, os.getpid()) if owner == "alive" else ("01234567", 1)
    leave_a_swap(tmp_path, ["old", "new"], host=host, process=process)
    before = names(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert model(find_directory(tmp_path / "m")) == "old"
    assert "a process has not finished replacing it" in caplog.text
    write(tmp_path / "m", "two")
    assert names(tmp_path) == [*before, "m"]


def test_what_another_machine_left_goes_after_a_day(tmp_path, monkeypatch):
    leave_a_swap(tmp_path, ["new"], host="01234567")
    write(tmp_path / "m", "one")
    (left,) = hidden_siblings(tmp_path / "m")
    os.utime(left.path, (0, 0))  # it may hold an old model, and have been renamed just now
    write(tmp_path / "m", "two")
    assert names(tmp_path) == [left.path.name, "m"]
    later = time.time() + 25 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    write(tmp_path / "m", "three")
    assert names(tmp_path) == ["m"]


def test_a_lock_keeps_a_directory_whatever_its_process_id_says(tmp_path):
    write(tmp_path / "m", "one")
    made, descriptor = make_hidden(tmp_path / "m", directory=True)
    (left,) = hidden_siblings(tmp_path / "m")
    assert left.path == made.path
    dead = hidden_module.Hidden(left.path, left.kind, left.host, 2**22 + 1, left.token)
    assert not dead.is_abandoned()
    os.close(descriptor)
    assert dead.is_abandoned()


def test_names_that_only_look_hidden_are_left_alone(tmp_path):
    for name in (".m.original", ".m.new-backup", ".m.old-01234567-1-abc", ".mm.new-x"):
        (tmp_path / name).mkdir()
    before = names(tmp_path)
    write(tmp_path / "m", "one")
    assert names(tmp_path) == sorted([*before, "m"])


def test_a_rename_replaces_nothing(way, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with pytest.raises(FileExistsError):
        rename_new(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "file").read_text() == "two"
    assert exchange(tmp_path / "one", tmp_path / "two") == (way == "exchange")


def test_the_disk_has_it_before_the_name_has_it(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def record(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write(tmp_path / "m", "one")
    last = [os.path.basename(path) for path in synced]
    assert sorted(last[:2]) == [SIDE_FILE, "model.safetensors"]
    assert last[2].startswith(".m.new-")
    assert synced[3:] == [os.fspath(tmp_path)]


def test_the_disk_has_what_is_kept_before_the_swap(way, tmp_path, monkeypatch):
    write(tmp_path / "m", "one")
    (tmp_path / "m" / "plots").mkdir()
    (tmp_path / "m" / "plots" / "loss.png").write_text("mine")
    synced = []

    def record(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append((os.path.basename(path), model(tmp_path / "m")))

    monkeypatch.setattr(os, "fsync", record)
    write(tmp_path / "m", "two")
    assert {("loss.png", "one"), ("plots", "one")} < set(synced)


def test_a_disk_that_fails_late_is_an_error(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write(tmp_path / "m", "one")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match="Input/output error. Nothing was changed there"):
        write(tmp_path / "m", "two")
    assert model(tmp_path / "m") == "one"
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EINVAL, "")))
    sync_tree(tmp_path)  # a file system without fsync


def test_a_disk_that_fails_after_the_swap_is_told_as_such(way, tmp_path, monkeypatch):
    target = tmp_path / "m"
    write(target, "one")
    (target / "notes.txt").write_text("mine")

    def fail(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}") == os.fspath(tmp_path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError) as caught:
        write(target, "two")
    assert str(caught.value) == (
        f"{target} was written, but the disk failed afterwards: Input/output error. A power "
        "failure may undo the write. Check the disk and write it again."
    )
    assert model(target) == "two"
    assert (target / "notes.txt").read_text() == "mine"
    assert names(tmp_path) == ["m"]


def test_a_rename_that_cannot_be_undone_is_told_as_such(tmp_path, monkeypatch):
    without_renames(monkeypatch)
    target = tmp_path / "m"
    write(target, "one")

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(replacing, "rename_new", fail)
    with pytest.raises(CheckpointError, match=r"The earlier directory is now .*\. Rename it to"):
        write(target, "two")
    (old,) = hidden_siblings(target)
    assert model(old.path) == "one"


@pytest.mark.parametrize("name", ["m" * 300, "/".join(["m" * 200] * 25)], ids=["name", "path"])
def test_a_name_that_is_too_long_is_an_error(tmp_path, name):
    target = tmp_path / name
    with pytest.raises(CheckpointError) as caught:
        write(target, "one")
    assert str(caught.value) == (
        f"Cannot write {target}: File name too long. Nothing was changed there."
    )
    assert find_directory(target) == target
    assert names(tmp_path) == []


def test_a_name_of_255_bytes(tmp_path):
    target = tmp_path / ("é" * 127)
    write(target, "one")
    write(target, "two")
    assert names(tmp_path) == [target.name]


@pytest.mark.parametrize("inside", ["", "/logs dir"])
def test_a_mount_point_is_not_replaced(tmp_path, monkeypatch, inside):
    target = tmp_path / "m"
    write(target, "one")
    place = f"{target}{inside}"
    (tmp_path / "mountinfo").write_text(
        f"24 1 0:22 / {place.replace(' ', chr(92) + '040')} rw - tmpfs tmpfs rw\n"
    )
    from keras_bert_zoo.directories import contents

    monkeypatch.setattr(contents, "_MOUNTS", tmp_path / "mountinfo")
    with pytest.raises(CheckpointError, match="is a mount point"):
        write(target, "two")
    assert model(target) == "one"


@pytest.mark.parametrize("place", [".", "..", "below"])
def test_the_current_directory_is_not_replaced(tmp_path, monkeypatch, place):
    model = tmp_path / "model"
    (model / "below").mkdir(parents=True)
    (model / SIDE_FILE).write_text("{}")
    monkeypatch.chdir(model / "below" if place == ".." else model)
    if place == "below":
        with replace_directory(place, CheckpointError, marker=SIDE_FILE) as aside:
            (aside / SIDE_FILE).write_text("{}")
        assert os.listdir("below") == [SIDE_FILE]
        return
    with (
        pytest.raises(CheckpointError, match="Change to another directory first"),
        replace_directory(place, CheckpointError, marker=SIDE_FILE),
    ):
        pass
    assert sorted(os.listdir(model)) == ["below", SIDE_FILE]


def test_a_file_to_write_is_none_to_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "a.csv").write_text("text\n")
    (tmp_path / "link.csv").symlink_to("a.csv")
    for output in ("a.csv", "./a.csv", str(tmp_path / "a.csv"), "link.csv"):
        args = argparse.Namespace(model="model", input="a.csv", output=output, columns=["x"])
        with pytest.raises(DataError, match="different files for --output and --input, which"):
            check_outputs(args, ("output",))
    args = argparse.Namespace(model="model", data="a.csv", errors=None, html="model/config.json")
    with pytest.raises(DataError, match="a file for --html outside the model's directory"):
        check_outputs(args, ("errors", "html"))
    args = argparse.Namespace(model="model", data="a.csv", errors="b", html="./b")
    with pytest.raises(DataError, match="expected different files for --errors and --html"):
        check_outputs(args, ("errors", "html"))
    args = argparse.Namespace(model="model", data="a.csv", errors=os.devnull, html=os.devnull)
    check_outputs(args, ("errors", "html"))
    args = argparse.Namespace(model="model", data="a.csv", errors="b.csv", html="c.html")
    check_outputs(args, ("errors", "html"))
    args = argparse.Namespace(data="a.csv", html="no/c.html")
    with pytest.raises(DataError, match="no/c.html: cannot write: No such file or directory"):
        check_outputs(args, ("html",))
    args = argparse.Namespace(data="a.csv", html="link.csv/c.html")
    with pytest.raises(DataError, match="link.csv/c.html: cannot write: Not a directory"):
        check_outputs(args, ("html",))


def test_a_name_with_gz_is_written_gzipped(tmp_path):
    for _ in range(2):
        with written_file(str(tmp_path / "a.jsonl.gz")) as file:
            file.write(b"x\n")
            file.flush()
        assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == b"x\n"
    assert os.listdir(tmp_path) == ["a.jsonl.gz"]
