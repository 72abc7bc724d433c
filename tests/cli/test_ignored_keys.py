"""A config.json with an unsupported key: every command has --ignore-config-keys."""

import json
import shutil

import pytest

from keras_bert_zoo import notices
from tests.cli.conftest import fast


@pytest.fixture(scope="module")
def odd(tmp_path_factory, model):
    """A model whose config.json has an unsupported key and an unknown key."""
    folder = tmp_path_factory.mktemp("odd") / "model"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"alibi": True, "my_notes": "x"}))
    return folder


def command_lines(odd, data, out):
    return {
        "predict": ["--model", odd, "--input", data / "dev.csv"],
        "evaluate": ["--model", odd, "--data", data / "dev.csv", "--json"],
        "convert": [odd, out / "converted", "--to", "preset"],
        "train": [
            *fast(odd, "--epochs", "1", "--max-length", "16"),
            *("--train", data / "dev.csv", "--output", out / "trained"),
        ],
        "index": [
            *("--retriever", odd, "--reader", out / "none", "--documents", data / "dev.csv"),
            *("--output", out / "indexed"),
        ],
        "export": ["--model", odd, "--output", out / "exported"],
    }


@pytest.mark.parametrize("name", ["predict", "evaluate", "convert", "train", "index", "export"])
def test_every_command_can_ignore_keys(run, refused, monkeypatch, odd, data, tmp_path, name):
    arguments = [name, *command_lines(odd, data, tmp_path)[name]]
    message = refused(*arguments)
    assert "`alibi` = True is not supported" in message
    assert "name it in `--ignore-config-keys`" in message
    notices.forget()
    if name in ("export", "train"):  # stop after loading: the rest is slow and tested elsewhere
        from keras_bert_zoo.tasks.text_classifier import TextClassifier

        method = {"export": "export", "train": "fit"}[name]
        monkeypatch.setattr(TextClassifier, method, lambda self, *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(*arguments, "--ignore-config-keys", "alibi")
        return
    finished = run(*arguments, "--ignore-config-keys", "alibi")
    if name == "index":  # the retriever is loaded, but the reader is missing
        assert "to load a model from" in finished.err
    else:
        assert finished.status == 0, finished
    assert finished.err.count("unknown keys are ignored: `my_notes`") == 1
