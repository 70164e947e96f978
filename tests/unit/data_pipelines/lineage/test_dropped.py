import pytest

from data_pipelines.lineage.dropped import dropped_page, read_dropped
from data_pipelines.sinks.parquet import DropLog
from finetune.contracts.dataset import DROPPED_NAME, MANIFEST_NAME, DroppedFile
from finetune.contracts.errors import DatasetError, UsageError
from finetune.contracts.io import write_json
from tests.unit.data_pipelines.building import build

LEFT_OUT = (
    ("notes.txt", "language", "language text is not supported"),
    ("odd\x1b[2J.py", "read", "path is not printable UTF-8"),
    ("api_pb2.py", "generated", "generated: file name"),
    ("vendor/b.py", "vendored", "vendored: folder vendor"),
    ("vendor/x/a.py", "vendored", "vendored: folder vendor"),
)


@pytest.fixture(scope="module")
def dataset(shop, tmp_path_factory):
    """A dataset that left LEFT_OUT out."""
    out = tmp_path_factory.mktemp("dropped") / "out"
    manifest = build([shop], out)
    with DropLog(out) as log:
        for path, stage, reason in LEFT_OUT:
            log.add("shop", commit="c" * 40, path=path, stage=stage, reason=reason, num_bytes=200)
    write_json(out / MANIFEST_NAME, manifest.model_copy(update={"dropped": log.counts()}))
    return out


def paths(dataset, **options):
    return [row.path for row in read_dropped(dataset, **options)]


def test_rows_by_stage_reason_path_and_number(dataset):
    assert paths(dataset, stage="vendored") == ["vendor/b.py", "vendor/x/a.py"]
    assert paths(dataset, reason_contains="FOLDER vendor", limit=1) == ["vendor/b.py"]
    assert paths(dataset, path_glob="*_pb2.py") == ["api_pb2.py"]
    assert paths(dataset, path_glob="vendor/x") == ["vendor/x/a.py"]


def test_the_page_names_the_place_and_steers_nothing(dataset):
    page = dropped_page(read_dropped(dataset))
    assert "shop:vendor/x/a.py" in page
    assert "\x1b" not in page
    row = DroppedFile(repo="r\x1b", commit="c" * 40, path="", stage="s", reason="why", bytes=0, twin="r:a.py")
    assert f"r\N{REPLACEMENT CHARACTER} {'c' * 12} (twin of r:a.py)" in dropped_page([row])


def test_what_cannot_be_shown_is_an_error_that_says_what_can(dataset, tmp_path):
    with pytest.raises(UsageError, match="'weather' left nothing out") as caught:
        read_dropped(dataset, stage="weather")
    assert "vendored" in caught.value.hint
    with pytest.raises(DatasetError, match="matches"):
        read_dropped(dataset, reason_contains="no such reason")
    with pytest.raises(DatasetError):
        read_dropped(tmp_path)


@pytest.mark.parametrize("content", [None, b"no parquet"])
def test_a_damaged_file_is_named(dataset, tmp_path, content):
    (tmp_path / MANIFEST_NAME).write_bytes((dataset / MANIFEST_NAME).read_bytes())
    if content:
        (tmp_path / DROPPED_NAME).write_bytes(content)
    with pytest.raises(DatasetError, match=DROPPED_NAME):
        read_dropped(tmp_path)
