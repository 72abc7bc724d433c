"""keras-bert-zoo evaluate."""

import errno
import json
import shutil

import pytest

from tests.cli.conftest import snapshot, texts


@pytest.fixture
def mixed(tmp_path):
    """Twelve rows, two of them with a wrong label."""
    path = tmp_path / "mixed.csv"
    rows = [*texts(10), ("the rose is here", "blue"), ("a leaf is here", "red")]
    path.write_text("\n".join(["text,label", *(",".join(row) for row in rows)]) + "\n")
    return path


def test_report_as_text(run, model, data):
    finished = run("evaluate", "--model", model, "--data", data / "dev.csv")
    assert (finished.status, finished.err) == (0, "")
    assert finished.out.startswith("accuracy  1.0000")
    assert "precision" in finished.out
    assert "green" in finished.out


def test_report_as_json_and_errors(run, model, mixed, tmp_path):
    errors = tmp_path / "errors.jsonl"
    finished = run("evaluate", "--model", model, "--data", mixed, "--json", "--errors", errors)
    assert (finished.status, finished.err) == (0, "")
    assert finished.json["rows"] == 12
    assert finished.json["accuracy"] == pytest.approx(10 / 12)
    assert finished.json["labels"].keys() == {"red", "green", "blue"}
    rows = [json.loads(line) for line in errors.read_text().splitlines()]
    assert {(row["row"], row["label"], row["predicted"]) for row in rows} == {
        (12, "blue", "red"),
        (13, "red", "green"),
    }
    assert rows[0].keys() == {"text", "label", "predicted", "score", "row"}
    assert rows[0]["score"] >= rows[1]["score"]


def test_bfloat16(run, model, data):
    finished = run(
        "evaluate", "--model", model, "--data", data / "dev.csv", "--dtype", "bfloat16", "--json"
    )
    assert finished.json["accuracy"] == 1.0


def test_config_file(run, model, data, tmp_path):
    config = tmp_path / "evaluate.json"
    config.write_text(
        json.dumps({"model": str(model), "data": str(data / "dev.csv"), "json": True})
    )
    assert run("evaluate", "--config", config).json["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": expected at least one row, but the file is empty"),
        (
            b"text,lable\na,red\n",
            ":1: expected a column 'label' (--label), found 'text', 'lable'; did",
        ),
        (b"text,label\na,x\n\xc3(,red\n", ":3: byte 0xc3 at byte 1 of the line is not valid utf-8"),
    ],
)
def test_bad_files(refused, model, tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    assert refused("evaluate", "--model", model, "--data", path).startswith(f"{path}{message}")


def test_unknown_label_names_file_and_line(refused, model, tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("text,label\na rose,red\na car,grene\na bus,grey\n")
    line = refused("evaluate", "--model", model, "--data", path)
    assert f"'grene' (first at {path}:3, did you mean 'green'?)" in line
    assert f"'grey' (first at {path}:4" in line
    assert "expected labels of 'blue', 'green', 'red'; received " in line


def test_directories_that_are_no_models(refused, data, tmp_path, preset):
    arguments = ["--data", data / "dev.csv"]
    assert "there is no such directory" in refused("evaluate", "--model", "nowhere", *arguments)
    assert "No config.json in" in refused("evaluate", "--model", tmp_path, *arguments)
    (tmp_path / "model.keras").touch()
    line = refused("evaluate", "--model", tmp_path / "model.keras", *arguments)
    assert "received a file; to convert a .keras file: keras.models" in line
    (tmp_path / "export" / "1").mkdir(parents=True)
    (tmp_path / "export" / "1" / "saved_model.pb").touch()
    for export in (tmp_path / "export", tmp_path / "export" / "1"):
        line = refused("evaluate", "--model", export, *arguments)
        assert "received an exported SavedModel; pass the directory" in line


def test_a_model_without_a_head(refused, preset, data, tmp_path):
    from safetensors.numpy import load_file, save_file

    headless = tmp_path / "headless"
    shutil.copytree(preset, headless)
    tensors = load_file(headless / "model.safetensors")
    encoder = {name: t for name, t in tensors.items() if not name.startswith("classifier")}
    save_file(encoder, headless / "model.safetensors")
    line = refused("evaluate", "--model", headless, "--data", data / "dev.csv")
    assert "has no head for TextClassifier" in line


def test_a_full_disk_leaves_the_earlier_file(refused, model, mixed, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "errors.jsonl").write_text("earlier")

    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    errors = folder / "errors.jsonl"
    line = refused("evaluate", "--model", model, "--data", mixed, "--errors", errors)
    assert line == f"{errors}: cannot write: No space left on device; nothing was changed there"
    assert snapshot(folder) == {"errors.jsonl": b"earlier"}


def test_a_page_of_errors(run, model, mixed, tmp_path):
    page = tmp_path / "errors.html"
    finished = run("evaluate", "--model", model, "--data", mixed, "--html", page)
    assert (finished.status, finished.err) == (0, "")
    html = page.read_text("utf-8")
    assert "12 examples, 2 errors." in html
    assert html.count('class="error"') == 2
    assert "the rose is here" in html
    assert "<title>Evaluation of " in html
    for title in ("Confusion matrix", "Calibration", "Precision and recall by label"):
        assert title in html
