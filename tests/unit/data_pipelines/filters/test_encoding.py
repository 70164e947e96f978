import pytest

from data_pipelines.filters.encoding import decode


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("x = 'ü'\n".encode(), None),
        ("x = 1\n".encode("utf-16"), "UTF-16 with a byte order mark"),
        (b"\xfe\xff" + "x = 1\n".encode("utf-16-be"), "UTF-16 with a byte order mark"),
        ("x = 1\n".encode("utf-32"), "UTF-32 with a byte order mark"),
        ("x = 1\n".encode("utf-16-le"), "binary"),
        (b"\x7fELF\0", "binary"),
        ("name = 'Müller'\n".encode("latin-1"), "Latin-1, not UTF-8"),
        ("имя = 'значение переменной'\n".encode("koi8-r"), "not UTF-8"),
        ("価格 = 1\n".encode("shift-jis"), "not UTF-8"),
        (b"x = \xc3\x28\x01\n", "not UTF-8"),
        (b"", None),
    ],
)
def test_each_encoding_has_its_reason(content, reason):
    text, found = decode(content)
    assert found == reason
    assert bool(text) is (reason is None and bool(content))


def test_a_mark_of_utf8_is_taken_off_once():
    assert decode(b"\xef\xbb\xbf\xef\xbb\xbfx")[0] == "\ufeffx"
