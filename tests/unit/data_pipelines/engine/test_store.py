import sqlite3

import pytest

from data_pipelines.engine.store import KEY_BYTES, Result, State, Still, Store, key_of, text_digest, write_pack
from finetune.contracts.errors import DatasetError, MachineError

ONE, TWO = key_of("one"), key_of("two")
TEXTS = [b"", b"x = 1\n" * 500, "ü\N{SNOWMAN}\0".encode()]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.db") as opened:
        yield opened


def change(store, statement, *values):
    """Alter the file behind the store's back."""
    base = sqlite3.connect(store.path)
    base.execute(statement, values)
    base.commit()
    base.close()


def test_what_is_added_comes_back_byte_for_byte(store):
    result = Result(ONE, b"people", b"{}", b"bands", b"picks", b"functions")
    store.add(result, TEXTS)
    assert store.heads([ONE, TWO]) == {ONE: Result(ONE, b"people", b"{}", b"bands")}
    assert (store.picks(ONE), store.functions(ONE)) == (b"picks", b"functions")
    assert [store.text(text_digest(text)) for text in TEXTS] == TEXTS


def test_whether_a_result_holds_and_is_of_use_can_be_asked_without_reading_it(store):
    store.add(Result(ONE, b"people", b"{}", b"bands", reason="too large"))
    store.add(Result(TWO, b"", b"{}"))
    assert store.states([ONE, TWO, key_of("unknown")]) == {ONE: State(b"people", "too large"), TWO: State(b"", "")}
    assert store.heads([ONE])[ONE].reason == "too large"


def test_any_number_of_keys_can_be_asked_for(store):
    keys = [key_of(number) for number in range(1_234)]
    store.begin()
    for key in keys:
        store.add(Result(key, b"", key))
    store.commit()
    found = store.heads([*keys, ONE])
    assert [found[key].head for key in keys] == keys
    assert len(found) == len(keys)


def test_keys_tell_apart_what_only_reads_alike():
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c", ""), ("ab", b"d"), ("1", "c"), (1, "d")]
    assert len({key_of(*some) for some in parts}) == len(parts)
    assert {len(key_of(*some)) for some in parts} == {KEY_BYTES}


def test_an_altered_text_is_never_given_out(store):
    for text in TEXTS[1:]:
        store.add(Result(ONE, b"", b""), [text])
    one, other = (text_digest(text) for text in TEXTS[1:])
    change(store, "UPDATE text SET (length, value) = (SELECT length, value FROM text WHERE digest = ?)", other)
    assert store.text(other) == TEXTS[2]
    with pytest.raises(DatasetError, match="is damaged: a text is missing or was altered") as caught:
        store.text(one)
    assert f"Delete {store.path}, then build again" in caught.value.hint


@pytest.mark.parametrize("value", [b"", b"no frame of zstd", None])
def test_a_text_that_cannot_be_unpacked_is_damage_and_no_crash(value, store):
    store.add(Result(ONE, b"", b""), TEXTS)
    change(store, "UPDATE text SET value = ?", value)
    with pytest.raises(DatasetError, match="a text is missing or was altered"):
        store.text(text_digest(TEXTS[1]))


def test_what_was_never_added_is_damage(store):
    with pytest.raises(DatasetError, match="a text is missing"):
        store.text(text_digest(b"never seen"))
    with pytest.raises(DatasetError, match="a result is missing"):
        store.picks(ONE)
    with pytest.raises(DatasetError, match="a result is missing"):
        store.functions(ONE)


def test_a_file_that_is_no_store_is_named(tmp_path):
    path = tmp_path / "store.db"
    path.write_bytes(b"this is no database at all, however long one looks at it. " * 40)
    with pytest.raises(DatasetError, match=r"The store .*store\.db is damaged") as caught:
        Store(path)
    assert f"Delete {path}" in caught.value.hint


def test_a_store_that_breaks_while_it_is_read_is_named(store):
    store.begin()
    for number in range(2_000):
        store.add(Result(key_of(number), b"", b"head" * 50), [b"text %d" % number])
    store.commit()
    size = store.path.stat().st_size
    store.close()
    with store.path.open("r+b") as stream:
        for place in range(4_096, size, 4_096):
            stream.seek(place)
            stream.write(b"\xff" * 200)
    with Store(store.path, read_only=True) as broken:
        with pytest.raises(DatasetError, match="is damaged"):
            broken.heads([key_of(number) for number in range(2_000)])
        with pytest.raises(DatasetError, match="is damaged"):
            broken.text(text_digest(b"text 7"))


def test_a_pack_is_merged_whole(store, tmp_path):
    store.add(Result(ONE, b"old", b"old head"))
    store.add(Result(TWO, b"old", b"stays"))
    pack = tmp_path / "one.db"
    rows = [(Result(ONE, b"new", b"new head", b"b", b"p", b"f"), TEXTS), (Still(TWO, b"new"), ())]
    write_pack(pack, rows)
    assert list(tmp_path.glob(".*")) == []
    store.merge(pack)
    assert store.heads([ONE, TWO]) == {
        ONE: Result(ONE, b"new", b"new head", b"b"),
        TWO: Result(TWO, b"new", b"stays"),
    }
    assert [store.text(text_digest(text)) for text in TEXTS] == TEXTS
    store.merge(pack)
    assert store.heads([TWO]) == {TWO: Result(TWO, b"new", b"stays")}


def test_of_a_pack_that_breaks_off_nothing_is_taken_in(store, tmp_path):
    pack = tmp_path / "one.db"
    write_pack(pack, [(Result(ONE, b"", b"head"), TEXTS)])
    base = sqlite3.connect(pack)
    base.execute("DROP TABLE still")
    base.commit()
    base.close()
    with pytest.raises(DatasetError, match=r"one\.db"):
        store.merge(pack)
    assert store.heads([ONE]) == {}
    write_pack(pack, [(Result(TWO, b"", b"head"), ())])
    store.merge(pack)
    assert list(store.heads([ONE, TWO])) == [TWO]


def test_a_pack_whose_rows_break_off_does_not_appear(tmp_path):
    def rows():
        yield Result(ONE, b"", b""), TEXTS
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_pack(tmp_path / "one.db", rows())
    assert not (tmp_path / "one.db").exists()


def test_what_is_forgotten_does_not_stand_in_the_file_any_more(store):
    secret = b"the plan of the vault"
    store.add(Result(ONE, b"", secret, b"", secret), TEXTS[1:])
    store.add(Result(TWO, b"", b"stays"), [text for text in TEXTS if text != TEXTS[1]])
    assert secret in store.path.read_bytes()
    assert store.retain([TWO, key_of("unknown")]) == (1, 1)
    assert secret not in store.path.read_bytes()
    assert list(store.heads([ONE, TWO])) == [TWO]
    assert store.text(text_digest(TEXTS[2])) == TEXTS[2]
    with pytest.raises(DatasetError, match="a text is missing"):
        store.text(text_digest(TEXTS[1]))


def test_similarities_are_replaced_as_a_whole(store):
    store.replace_similarities([(ONE, TWO, 0.75), (TWO, TWO, 1.0)])
    store.replace_similarities([(ONE, TWO, 0.5)])
    assert list(store.similarities()) == [(ONE, TWO, 0.5)]


def test_a_full_disk_is_no_damage(store):
    store._base.execute("PRAGMA max_page_count = 12")
    with pytest.raises(MachineError, match="No space left on the disk that holds .*store.db"):
        store.add(Result(ONE, b"", bytes(100_000)))
    assert store.heads([ONE]) == {}


def test_a_path_may_hold_signs_that_a_link_would_not(tmp_path):
    path = tmp_path / "what? 100% #1.db"
    with Store(path) as store:
        store.add(Result(ONE, b"", b"head"))
    with Store(path, read_only=True) as store:
        assert store.heads([ONE])[ONE].head == b"head"
    assert [found.name for found in tmp_path.glob("*.db")] == [path.name]
