"""Replacing a directory: kills, other processes, and what belongs to the user."""

import errno
import json
import logging
import os
import stat
import subprocess
import sys

import pytest

from keras_bert_zoo.directories import hidden as hidden_module
from keras_bert_zoo.directories import renames, replacing
from keras_bert_zoo.directories.contents import MODEL_PARTS
from keras_bert_zoo.directories.hidden import hidden_siblings, make_hidden
from keras_bert_zoo.directories.renames import exchange, rename_new
from keras_bert_zoo.directories.replacing import find_directory, replace_directory, sync_tree
from keras_bert_zoo.errors import CheckpointError
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


def test_ctrl_c_at_any_line_leaves_one_of_both(way, tmp_path):
    write(tmp_path / "m", "one")
    package = os.path.dirname(replacing.__file__)
    found = set()
    for line in range(0, 1000, 7):
        left = line

        def trace(frame, event, _):
            nonlocal left
            if not frame.f_code.co_filename.startswith(package):
                return None
            if event == "line" and frame.f_code.co_name in ("_swap", "_swap_in_two_steps"):
                left -= 1
                if left == -1:
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
        found.add(model(tmp_path / "m"))
        write(tmp_path / "m", "one")
    assert "one" in found


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
    with pytest.raises(CheckpointError, match=f"it also holds {name}, which .* Move it elsewhere"):
        write(tmp_path / "m", "two")
    assert model(tmp_path / "m") == "one"
    assert (tmp_path / "m" / name).read_text() == "theirs"


@pytest.mark.parametrize("name", ["notes.txt", "README.md", "best.weights.h5", "logs", "x.onnx.md"])
def test_what_is_no_part_of_a_model(name):
    assert not MODEL_PARTS.fullmatch(name)


def leave_a_swap(folder, kinds, *, host=None, process=None):
    """What a process leaves that is killed between two renames."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    token = f"{host or hidden_module._host()}-{process or dead.pid}-abcdefgh"
    for kind in kinds:
        path = folder / f".m.{kind}-{token}"
        path.mkdir()
        (path / SIDE_FILE).write_text("{}")
        (path / "model.safetensors").write_text(kind)


@pytest.mark.parametrize(
    ("kinds", "found"), [(("old", "new"), "new"), (("old",), "old")], ids=["both", "one"]
)
def test_an_interrupted_swap_is_finished(tmp_path, caplog, kinds, found):
    leave_a_swap(tmp_path, kinds)
    assert find_directory(tmp_path / "m") == tmp_path / "m"
    assert model(tmp_path / "m") == found
    assert f"The {'new' if found == 'new' else 'earlier'} directory, which is whole" in caplog.text
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


def test_what_another_machine_left_goes_after_a_day(tmp_path):
    leave_a_swap(tmp_path, ["new"], host="01234567")
    write(tmp_path / "m", "one")
    (left,) = hidden_siblings(tmp_path / "m")
    os.utime(left.path, (0, 0))
    write(tmp_path / "m", "two")
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
