"""keras-bert-zoo convert."""

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


def test_a_pickle_needs_leave(refused, run, tmp_path):
    arguments = ("convert", str(ASSETS / "pytorch_zip"), str(tmp_path / "out"), "--to", "preset")
    assert "allow_pickle=True" in refused(*arguments)
    assert run(*arguments, "--allow-pickle").status == 0


@pytest.mark.parametrize("to", ["onnx", ""])
def test_refuses_unknown_formats(refused, tmp_path, to):
    assert "--to" in refused("convert", "src", str(tmp_path / "out"), "--to", to)
