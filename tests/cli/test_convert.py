"""keras-bert-zoo convert."""

import shutil

import pytest

from tests.helpers import ASSETS


def test_prints_the_comparison(run, tmp_path):
    finished = run("convert", str(ASSETS / "google_bert"), str(tmp_path / "out"), "--to", "preset")
    assert finished.status == 0
    assert finished.out.splitlines()[0].startswith("converted bert (masked_lm, next_sentence): ")
    assert finished.out.splitlines()[-1] == "largest difference: 0.0e+00"
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_json(run, tmp_path):
    target = str(tmp_path / "out")
    result = run("convert", str(ASSETS / "bert_gelu"), target, "--to", "google", "--json").json
    assert result["to"] == "google"
    assert result["largest_difference"] == 0.0
    assert result["tensors"] == 39


def test_a_pickle_needs_a_flag(refused, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(ASSETS / "bert_gelu" / "config.json", source)
    shutil.copy(ASSETS / "pytorch_zip" / "pytorch_model.bin", source)
    arguments = ("convert", str(source), str(tmp_path / "out"), "--to", "preset")
    assert "a pickle, which is not read by default" in refused(*arguments)
    # With the flag it is read, but it does not fit the config.
    assert "does not fit the model" in refused(*arguments, "--allow-pickle")


@pytest.mark.parametrize("to", ["onnx", ""])
def test_refuses_unknown_formats(refused, tmp_path, to):
    assert "--to" in refused("convert", "src", str(tmp_path / "out"), "--to", to)


def test_the_encoder_alone(run, refused, tmp_path):
    """The error names the flag; with the flag the dropped heads are listed."""
    source = str(ASSETS / "google_bert")
    arguments = ("convert", source, str(tmp_path / "out"), "--to", "keras-hub")
    assert "Pass `--encoder-only`" in refused(*arguments, "--approximate-gelu")
    arguments = (*arguments[:-1], "preset", "--encoder-only")
    first = run(*arguments).out.splitlines()[0]
    assert first.startswith("converted bert (no head; left out: masked_lm, next_sentence): ")


def test_messages_name_flags_instead_of_python_options(refused, tmp_path):
    source = ASSETS / "bert_gelu"
    message = refused("convert", str(source), str(tmp_path / "out"), "--to", "keras-hub")
    assert "pass `--approximate-gelu`" in message
    unsupported = tmp_path / "unsupported"
    shutil.copytree(source, unsupported)
    config = (unsupported / "config.json").read_text()
    (unsupported / "config.json").write_text(config.replace("{", '{"alibi": true,', 1))
    message = refused("convert", str(unsupported), str(tmp_path / "out"), "--to", "preset")
    assert "`alibi` = True is not supported" in message
    assert "name it in `--ignore-config-keys`" in message
