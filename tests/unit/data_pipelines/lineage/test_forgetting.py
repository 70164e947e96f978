import pytest

from data_pipelines.lineage.forgetting import FORGOTTEN_NAME, Forgotten, read_forgotten, write_forgotten
from finetune.contracts.errors import DatasetError
from tests.unit.data_pipelines.building import build, bytes_of, dropped_of, rows_of

LIST = Forgotten(repositories=("old",), paths=("shop:lib/*.py", "shop:a[1].py"), authors=("ada",))


@pytest.mark.parametrize(
    ("repository", "paths", "author", "reason"),
    [
        ("old", ["x.py"], "grace", "its repository was forgotten"),
        ("shop", ["x.py"], "ada", "its author was forgotten"),
        ("shop", ["x.py", "lib/b.py"], "grace", "its path was forgotten"),
        ("shop", ["a[1].py"], "grace", "its path was forgotten"),
        ("shop", ["a1.py"], "grace", "its path was forgotten"),
        ("shop", ["lib.py", "Lib/b.py", "lib/b.go", "lib/deep/b.py"], "grace", ""),
        ("shop-2", ["lib/b.py"], "grace", ""),
        ("older", [], "", ""),
    ],
)
def test_what_is_on_the_list_is_left_out(repository, paths, author, reason):
    assert LIST.reason(repository, paths, author) == reason


def test_lists_are_joined_in_one_order():
    one, other = Forgotten(paths=("b", "a")), Forgotten(paths=("c", "a"), authors=("x",))
    assert one | other == other | one == Forgotten(paths=("a", "b", "c"), authors=("x",))
    assert (one | other).digest() == (other | one).digest() != Forgotten().digest()


def test_a_list_stays_with_its_dataset_and_an_empty_one_is_no_file(tmp_path):
    write_forgotten(tmp_path, Forgotten())
    assert list(tmp_path.iterdir()) == []
    assert read_forgotten(tmp_path) == Forgotten()
    write_forgotten(tmp_path, LIST)
    assert read_forgotten(tmp_path) == LIST


@pytest.mark.parametrize("content", ["{", '{"paths": "x"}', '{"pahts": []}'])
def test_a_damaged_list_stops_the_build(content, shop, tmp_path):
    """Else what was forgotten would come back."""
    out = tmp_path / "out"
    build([shop], out)
    (out / FORGOTTEN_NAME).write_text(content)
    before = bytes_of(out)
    with pytest.raises(DatasetError, match=FORGOTTEN_NAME) as caught:
        build([shop], out)
    assert "would take in again what was forgotten" in caught.value.hint
    assert bytes_of(out) == before


def test_what_was_forgotten_is_in_no_later_build(shop, tmp_path):
    out = tmp_path / "out"
    build([shop], out)
    assert any(place.path == "shop/bridge.py" for row in rows_of(out) for place in row.provenance)
    write_forgotten(out, Forgotten(paths=("shop:shop/bridge.py",)))
    for seed in (0, 1):
        made = build([shop], out, seed=seed)
        shown = {place.path for row in rows_of(out) for place in row.provenance}
        shown |= {segment.path for row in rows_of(out) for segment in row.segments}
        assert "shop/canal.py" in shown
        assert "shop/bridge.py" not in shown
        # counted, and not named: a path may say too much
        assert [(row.reason, row.count) for row in made.dropped if row.stage == "forgotten"] == [
            ("its path was forgotten", 2)
        ]
        assert "bridge" not in str(dropped_of(out))
        assert read_forgotten(out).paths == ("shop:shop/bridge.py",)
