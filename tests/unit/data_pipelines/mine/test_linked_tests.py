import pytest

from data_pipelines.mine.cases import is_test_path
from data_pipelines.mine.links import LinkIndex
from data_pipelines.mine.tests import rows_of_tests
from finetune.contracts.dataset import Role, Task


def rows_of(shop, path):
    return rows_of_tests(
        shop.files[path],
        shop.cards[path],
        index=LinkIndex(shop.cards.values()),
        load=shop.load,
        section=shop.tasks.tests,
    )


def text_of(row, role):
    return "".join(segment.text for segment in row.segments if segment.role is role)


def linked(files, make_shop, **settings):
    """{test file: {function: titles of its tests}} of what links there are."""
    shop = make_shop(files, **settings)
    index = LinkIndex(shop.cards.values())
    return {
        path: {link.name: [case.name for case in link.cases] for link in links}
        for path, loaded in shop.files.items()
        if (links := index.links(loaded, shop.cards[path]))
    }


@pytest.mark.parametrize(
    ("language", "test_file", "source", "function", "answer"),
    [
        ("python", "tests/test_cart.py", "shop/cart.py", "total_price", '@pytest.mark.parametrize("rate", [0, 0.2])'),
        ("go", "price/price_test.go", "price/price.go", "RoundPrice", "func TestRoundPrice(t *testing.T) {"),
        ("java", "src/test/java/shop/PriceTest.java", "src/main/java/shop/Price.java", "roundPrice", "@Test"),
        ("typescript", "src/cart.test.ts", "src/cart.ts", "totalPrice", 'it("sums up the lines", () => {'),
        ("rust", "src/price.rs", "src/price.rs", "round_price", "#[test]"),
        ("ruby", "spec/cart_spec.rb", "lib/cart.rb", "total_price", 'it "sums up the lines" do'),
    ],
)
def test_a_function_and_its_test_make_a_row(make_shop, language, test_file, source, function, answer):
    shop = make_shop(language)
    (row,) = rows_of(shop, test_file)
    assert row.task is Task.TESTS
    assert row.stratum == "linked"
    assert row.segments[0].text == f"Write tests for {function} in {source}."
    assert row.segments[1].path == source
    assert function in row.segments[1].text
    learned = text_of(row, Role.ANSWER)
    assert learned.startswith(answer)
    assert function in learned
    assert [segment.role for segment in row.segments if segment.loss] == [Role.ANSWER]
    stripped = [line.strip() for line in learned.split("\n")]
    place = row.provenance[0]
    assert place.path == test_file
    lines = shop.files[test_file].text.decode().split("\n")[place.first_line - 1 : place.last_line]
    assert [line.strip() for line in lines] == stripped[:-1]
    assert learned.strip() not in text_of(row, Role.CONTEXT)
    assert not set(stripped[1:-2]) & {line.strip() for line in text_of(row, Role.CONTEXT).split("\n")} - {
        "}",
        "end",
        "",
    }


def test_what_asserts_nothing_or_dumps_is_no_test(make_shop):
    assert linked("python", make_shop) == {"tests/test_cart.py": {"total_price": ["test_total_price_adds_tax"]}}


def test_a_test_goes_to_the_function_in_its_name_else_to_the_rarest(make_shop):
    files = {
        "shop/cart.py": "".join(
            f"def {name}(cart):\n    return cart\n\n\n" for name in ("price", "price_all", "prepare")
        ),
        "tests/test_cart.py": "from shop.cart import *\n\n\n"
        + "def test_price_all_of_it():\n    cart = prepare(price(1))\n    assert price_all(cart)\n\n\n"
        + "def test_nothing_in_the_name():\n    cart = prepare(1)\n    assert price(cart)\n\n\n"
        + "def test_another():\n    cart = prepare(1)\n    assert cart\n",
    }
    assert linked(files, make_shop) == {
        "tests/test_cart.py": {
            "price_all": ["test_price_all_of_it"],
            "price": ["test_nothing_in_the_name"],
            "prepare": ["test_another"],
        }
    }


def test_the_nearest_file_of_the_same_stem_is_meant(make_shop):
    files = {
        f"{package}/src/cart.ts": "export function total(cart: number): number {\n  return cart;\n}\n"
        for package in "ab"
    }
    files["b/test/cart.spec.ts"] = 'it("adds up", () => {\n  const cart = 1;\n  expect(total(cart)).toBe(1);\n});\n'
    shop = make_shop(files)
    (link,) = LinkIndex(shop.cards.values()).links(shop.files["b/test/cart.spec.ts"], shop.cards["b/test/cart.spec.ts"])
    assert link.path == "b/src/cart.ts"


def test_limits_of_rows_and_tests(make_shop):
    functions = "".join(f"def weigh_{n}(cart):\n    return cart\n\n\n" for n in range(5))
    tests = "".join(
        f"def test_weigh_{n}_{m}():\n    cart = weigh_{n}({m})\n    assert cart == {m}\n\n\n"
        for n in range(5)
        for m in range(n + 1)
    )
    shop = make_shop({"cart.py": functions, "test_cart.py": "from cart import *\n\n\n" + tests})
    rows = rows_of(shop, "test_cart.py")
    assert [row.segments[0].text for row in rows] == [f"Write tests for weigh_{n} in cart.py." for n in (2, 3, 4)]
    assert [text_of(row, Role.ANSWER).count("def test_") for row in rows] == [3, 3, 3]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tests/helpers.py", True),
        ("a/test_x.py", True),
        ("a/x_test.go", True),
        ("a/x.test.ts", True),
        ("a/x.spec.js", True),
        ("a/XTest.java", True),
        ("a/TestX.cs", True),
        ("spec/x_spec.rb", True),
        ("a/contest.py", False),
        ("a/latest.go", False),
        ("src/Testament.java", False),
    ],
)
def test_paths_of_tests(path, expected):
    assert is_test_path(path) is expected


def test_attributes_over_several_lines_belong_to_the_test_and_those_of_another_do_not(make_shop):
    files = {
        "cart.py": "def total(cart):\n    return cart\n",
        "test_cart.py": "import pytest\nfrom cart import total\n\n\n"
        "@pytest.fixture(\n    scope='module',\n)\ndef cart():\n    return 1\n"
        "@pytest.mark.parametrize(\n    'rate',\n    [\n        1,\n    ],\n)\n@pytest.mark.slow\n"
        "def test_total(rate):\n    found = total(rate)\n    assert found == rate\n",
    }
    shop = make_shop(files)
    (row,) = rows_of(shop, "test_cart.py")
    assert text_of(row, Role.ANSWER).startswith("@pytest.mark.parametrize(\n    'rate',\n")
    assert row.segments[2].text.endswith("def cart():\n    return 1\n")


def test_the_licence_above_a_test_file_is_not_shown(make_shop):
    files = {
        "cart.go": "package cart\n\nfunc Total(x int) int {\n\treturn x\n}\n",
        "cart_test.go": "// Copyright of somebody.\n// All rights reserved.\n\npackage cart\n\n"
        "func TestTotal(t *testing.T) {\n\tif Total(1) != 1 {\n\t\tt.Error(1)\n\t}\n}\n",
    }
    (row,) = rows_of(make_shop(files), "cart_test.go")
    assert row.segments[2].text == "package cart\n\n"


def test_a_test_that_names_no_function_is_linked_in_files_of_the_same_name_alone(make_shop):
    tests = "from cart import total\n\n\ndef test_it_works():\n    found = total(1)\n    assert found == 1\n"
    files = {"cart.py": "def total(cart):\n    return cart\n"}
    assert linked(files | {"test_cart.py": tests}, make_shop)
    assert not linked(files | {"test_shop.py": tests}, make_shop)


@pytest.mark.parametrize(
    "line",
    [
        "    data = '" + "x" * 400 + "'\n",
        "    data = 'REDACTED_API_KEY_0123abcd'\n",
    ],
    ids=["data", "placeholder"],
)
def test_tests_with_lines_of_data_or_placeholders_are_none(make_shop, line):
    body = "def test_total():\n    found = total(1)\n{}    assert found == 1\n"
    for extra, expected in (("", 1), (line, 0)):
        shop = make_shop({"test_cart.py": "from cart import total\n\n\n" + body.format(extra)})
        assert len(shop.files["test_cart.py"].picks.cases) == expected


def test_a_test_inside_a_test_is_a_part_of_it(make_shop):
    text = (
        "def test_outer():\n    def test_inner():\n        x = 1\n        assert x\n\n    test_inner()\n    assert 1\n"
    )
    (case,) = make_shop({"test_cart.py": text}).files["test_cart.py"].picks.cases
    assert case.name == "test_outer"


def test_neither_helpers_of_tests_nor_names_of_everything_are_tested(make_shop):
    files = {
        "cart.py": "def setup(cart):\n    return cart\n",
        "tests/build.py": "def make_cart(cart):\n    return cart\n",
        "tests/test_cart.py": "from cart import setup\nfrom tests.build import make_cart\n\n\n"
        "def test_make_cart_and_setup():\n    found = setup(make_cart(1))\n    assert found == 1\n",
    }
    assert linked(files, make_shop) == {}


def test_a_function_larger_than_what_may_be_shown_gives_no_row(make_shop):
    files = {
        "cart.py": "def total(cart):\n" + "    cart += 1\n" * 50 + "    return cart\n",
        "test_cart.py": "from cart import total\n\n\ndef test_total():\n    found = total(1)\n    assert found == 51\n",
    }
    assert rows_of(make_shop(files), "test_cart.py")
    assert not rows_of(make_shop(files, tests={"max_source_bytes": 500}), "test_cart.py")
