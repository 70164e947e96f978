import subprocess
from pathlib import Path

import pytest

from data_pipelines.benchmark.copies import Copies
from data_pipelines.benchmark.layouts.portable import portable_task
from finetune.contracts.executed import FileText

from .conftest import DOUBLE, LOW, SHOP, WRONG, body_task, commit_task


def apply(folder: Path, patch: str) -> None:
    subprocess.run(["git", "apply", "-"], cwd=folder, input=patch.encode(), check=True)


def test_the_patches_of_a_commit_make_its_files_of_its_parents(tree, tmp_path):
    portable = portable_task(commit_task(), tree("parent", WRONG, DOUBLE))
    portable.copy_tree(tmp_path / "work", Copies())
    apply(tmp_path / "work", portable.gold_patch())
    apply(tmp_path / "work", portable.test_patch())
    assert (tmp_path / "work" / "shop.py").read_text() == SHOP
    assert (tmp_path / "work" / "tests" / "test_shop.py").read_text() == LOW
    assert not (tmp_path / "work" / "tests" / "test_gone.py").exists()


def test_a_body_task_has_a_stub_in_its_tree_and_the_suites_tree_stays_whole(tree, tmp_path):
    place = tree("head", SHOP, LOW)
    portable = portable_task(body_task(), place)
    copies = Copies()
    portable.copy_tree(tmp_path / "work", copies)
    # the next task's tree is linked to files of this one's, but not to its stub
    copies.copy_tree(place, tmp_path / "next")
    stub = "def clamp(value, low):\n    raise LookupError\n"
    assert (tmp_path / "work" / "shop.py").read_text() == stub
    assert (place / "shop.py").read_text() == (tmp_path / "next" / "shop.py").read_text() == SHOP
    assert portable.test_patch() == ""
    apply(tmp_path / "work", portable.gold_patch())
    assert (tmp_path / "work" / "shop.py").read_text() == SHOP


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\nb", "a\nb\n"),
        ("a\n", "a\nb"),
        ("a\x0cb\n", "a\x0cc\n"),
        ("a\r\nb\r\n", "a\r\nc\r\n"),
        ("a\u2028b\nc\n", "a\u2028b\nd\n"),
    ],
)
def test_patches_keep_the_ends_of_lines(before, after, tmp_path):
    for name in ("parent", "work"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shop.py").write_bytes(before.encode())
    task = commit_task(gold=(FileText(path="shop.py", text=after), FileText(path="new.py", text="x\n")), tests=())
    apply(tmp_path / "work", portable_task(task, tmp_path / "parent").gold_patch())
    assert (tmp_path / "work" / "shop.py").read_bytes() == after.encode()
    assert (tmp_path / "work" / "new.py").read_text() == "x\n"


def test_a_name_is_one_that_every_harness_takes(tmp_path):
    assert (
        portable_task(commit_task(repo="Corp & Söhne/shop_2"), tmp_path).name == f"corp-s-hne-shop-2__commit-{'c' * 16}"
    )


def test_files_that_trees_share_are_written_once(tree, tmp_path):
    place = tree("head", SHOP, LOW)
    copies = Copies()
    copies.copy_tree(place, tmp_path / "first")
    copies.copy_tree(place, tmp_path / "second")
    assert (tmp_path / "first" / "shop.py").samefile(tmp_path / "second" / "shop.py")
    assert not (tmp_path / "first" / "shop.py").samefile(place / "shop.py")
