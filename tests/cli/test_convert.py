"""keras-bert-zoo convert."""

import shutil

import pytest

from tests.helpers import ASSETS


def test_says_what_was_compared(run, tmp_path):
    finished = run("convert", str(ASSETS / "google_bert"), str(tmp_path / "out"), "--to", "preset")
    assert finished.status == 0
    assert finished.out.splitlines()[0].startswith("converted bert (masked_lm, next_sentence): ")
    assert finished.out.splitlines()[-1] == "largest difference: 0.0e+00"
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_json(run, tmp_path):
    target = str(tmp_path / "out")
    found = run("convert", str(ASSETS / "bert_gelu"), target, "--to", "google", "--json").json
    assert found["to"] == "google"
    assert found["largest_difference"] == 0.0
    assert found["tensors"] == 39


def test_a_pickle_needs_leave(refused, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(ASSETS / "bert_gelu" / "config.json", source)
    shutil.copy(ASSETS / "pytorch_zip" / "pytorch_model.bin", source)
    arguments = ("convert", str(source), str(tmp_path / "out"), "--to", "preset")
    assert "a pickle, which is not read by default" in refused(*arguments)
    # With leave it is read; it is not this config's.
    assert "does not fit the model" in refused(*arguments, "--allow-pickle")


@pytest.mark.parametrize("to", ["onnx", ""])
def test_refuses_unknown_formats(refused, tmp_path, to):
    assert "--to" in refused("convert", "src", str(tmp_path / "out"), "--to", to)


def test_the_encoder_alone(run, refused, tmp_path):
    """The refusal names the flag; with it, what was left out is told."""
    source = str(ASSETS / "google_bert")
    arguments = ("convert", source, str(tmp_path / "out"), "--to", "keras-hub")
    assert "converted with `--encoder-only`" in refused(*arguments, "--approximate-gelu")
    arguments = (*arguments[:-1], "preset", "--encoder-only")
    first = run(*arguments).out.splitlines()[0]
    assert first.startswith("converted bert (no head; left out: masked_lm, next_sentence): ")


def test_messages_name_flags_where_python_has_options(refused, tmp_path):
    source = ASSETS / "bert_gelu"
    found = refused("convert", str(source), str(tmp_path / "out"), "--to", "keras-hub")
    assert "written with `--approximate-gelu`" in found
    strange = tmp_path / "strange"
    shutil.copytree(source, strange)
    config = (strange / "config.json").read_text()
    (strange / "config.json").write_text(config.replace("{", '{"alibi": true,', 1))
    found = refused("convert", str(strange), str(tmp_path / "out"), "--to", "preset")
    assert "`alibi` = True is not supported" in found
    assert "name it in `--ignore-config-keys`" in found
