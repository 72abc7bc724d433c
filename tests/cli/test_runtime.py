"""The start of TensorFlow without log messages, and the dtypes of the hardware."""

import os
from types import SimpleNamespace

import pytest

from keras_bert_zoo.cli import runtime
from keras_bert_zoo.errors import ConfigError


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 vme\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),  # Arm
        ("flags\t\t: fpu avx2 avx512f\nbugs\t\t: avx512_bf16\n", False),
        ("", False),
    ],
)
def test_bfloat16_of_a_cpu(tmp_path, cpuinfo, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert runtime.cpu_has_bfloat16(path) is expected


def test_bfloat16_of_an_unknown_cpu(tmp_path):
    assert runtime.cpu_has_bfloat16(tmp_path / "nothing") is False


def machine(*capabilities) -> SimpleNamespace:
    """A fake TensorFlow with the functions that describe GPUs."""
    details = SimpleNamespace(get_device_details=lambda gpu: {"compute_capability": gpu})
    return SimpleNamespace(
        config=SimpleNamespace(
            get_visible_devices=lambda kind: list(capabilities), experimental=details
        )
    )


def test_dtype(monkeypatch):
    monkeypatch.setattr(runtime, "cpu_has_bfloat16", lambda: True)
    assert runtime.keras_dtype("auto", machine()) == "mixed_bfloat16"
    assert runtime.keras_dtype("float32", machine()) == "float32"
    assert runtime.keras_dtype("bfloat16", machine((7, 5))) == "mixed_bfloat16"
    assert runtime.keras_dtype("auto", machine((7, 5))) == "float32"
    assert runtime.keras_dtype("auto", machine((8, 0), (9, 0))) == "mixed_bfloat16"
    assert runtime.keras_dtype("auto", machine((8, 0), (7, 0))) == "float32"
    monkeypatch.setattr(runtime, "cpu_has_bfloat16", lambda: False)
    assert runtime.keras_dtype("auto", machine()) == "float32"


def test_messages_of_the_start_are_shown_only_after_an_error(monkeypatch, capfd):
    def start(*, error: Exception | None = None):
        os.write(2, b"log message\n")
        if error is not None:
            raise error
        return SimpleNamespace(get_logger=lambda: SimpleNamespace(setLevel=lambda level: None))

    monkeypatch.setattr(runtime, "start_interruptible", lambda first: start())
    runtime.start_tensorflow(verbose=False)
    assert capfd.readouterr().err == ""
    runtime.start_tensorflow(verbose=True)
    assert capfd.readouterr().err == "log message\n"
    monkeypatch.setattr(runtime, "start_interruptible", lambda first: start(error=ImportError()))
    with pytest.raises(ImportError):
        runtime.start_tensorflow(verbose=False)
    assert capfd.readouterr().err == "log message\n"
    # The message of an error of the package says everything.
    bad = ConfigError("no such strategy")
    monkeypatch.setattr(runtime, "start_interruptible", lambda first: start(error=bad))
    with pytest.raises(ConfigError):
        runtime.start_tensorflow(verbose=False)
    assert capfd.readouterr().err == ""
    os.write(2, b"standard error is restored\n")
    assert capfd.readouterr().err == "standard error is restored\n"
