import pytest

from data_pipelines.filters.data import dump_reason, table_reason

QUERY = b"CREATE TABLE orders (id int, note text);\nSELECT id, note FROM orders WHERE id > 3;\n"


@pytest.mark.parametrize(
    ("content", "is_dump"),
    [
        (QUERY + b"INSERT INTO orders VALUES (1, 'one');\n" * 40, True),
        (QUERY + b"INSERT INTO orders (id, note) VALUES\n" + b"(1, 'one'),\r\n" * 40, True),
        (b"COPY public.orders (id, note) FROM stdin;\n" + b"1\tone\n" * 40 + b"\\.\n" + QUERY, True),
        (b"copy orders from stdin;\n" + b"1\tone\n" * 40, False),
        (QUERY * 20 + b"INSERT INTO orders VALUES (1, 'one');\n" * 5, False),
        (QUERY + b"INSERT INTO orders VALUES (1, 'one');\n" * 5, False),
        (b"INSERT INTO orders SELECT id,\n    note\nFROM old WHERE\n    id > 3;\n" * 40, False),
        (QUERY * 30, False),
    ],
)
def test_dumps(content, is_dump):
    assert bool(dump_reason(content, max_share=0.5)) is is_dump


@pytest.mark.parametrize(
    ("content", "is_table"),
    [
        (b"sizes = [" + b"1024, -2.5e3, 0xff,\n" * 60 + b"]\n", True),
        (b"static const uint8_t t[] = {" + b"12u, 13u, 14u, " * 60 + b"};\n", True),
        (b"words = (\n" + b'    \'one\', "two \\" three",\n' * 60 + b")\n", True),
        (b"points = [" + b"[1, 2], [3, 4], " * 60 + b"]\n", True),
        (b"pairs = {" + b"'one': 1, 'two': 2, " * 60 + b"}\n", True),
        (b"sizes = [1, 2, 3, 4]\n" + b"total = weigh(sizes, limit=3) + 1\n" * 40, False),
        (b"call(1, 2, 3); other(4, 5, x);\n" * 60, False),
        (b"assert weigh('one', 1) == 'two'\n" * 60, False),
        (b"tiny = [" + b"1, 2, " * 20 + b"]\n", False),
    ],
)
def test_tables(content, is_table):
    assert bool(table_reason(content, max_share=0.7)) is is_table
