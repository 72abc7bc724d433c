"""Every task's export answers as the task does."""

import pytest

from tests.checks import check_export
from tests.tasks.every_task import EVERY_TASK, make
from tests.tasks.test_keras_files import questions_for


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_TASK)
def test_every_export_answers_as_its_task(name, tmp_path):
    check_export(make(name)[0], questions_for(name), tmp_path)
