import pytest

from data_pipelines.benchmark.work import work_beside
from finetune.contracts.errors import InputError


def test_two_kinds_of_tasks_are_not_mined_into_one_folder_at_once(tmp_path):
    out = tmp_path / "suite"
    with (
        work_beside(out, "commits", "1") as work,
        pytest.raises(InputError, match="Another process mines"),
        work_beside(out, "bodies", "1"),
    ):
        pass
    with work_beside(out, "bodies", "1") as other:
        assert other.folder != work.folder
