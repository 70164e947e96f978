import pytest

from data_pipelines.benchmark.bodies import find_bodies
from data_pipelines.benchmark.languages.registry import LANGUAGES

JAVASCRIPT = """exports.sum = function (first, second) {
  let total = first

  total += second
  return total
}

const f = (a) => { return a }

class Shop {
  static name({ a }) {
    function inner() {
      return a
    }
    return inner()
  }
}

function shares(a) { a += 1
  a += 2
  a += 3
  a += 4
  return a }
"""
GO = """package shop

import (
	"fmt"
	"math/big"
	str "strings"
	"example.com/semver/v3"
)

func (c *Cart[T]) Sum(name string, many ...int) (string, error) {
	var x big.Int
	y := semver.New(str.ToUpper(name))
	return y, fmt.Errorf("no")
}

func Named(_ string) (total int, err error) {
	total = 1
	total = 2
	return
}

func Does(total int) {
	total++
	total++
	total++
}
"""
JAVA = """class Shop {
    Shop() {
        int a = 1;
        a += 1;
        a += 2;
    }

    static class Cart {
        List<String> sum(int a, List<String> b) {
            a += 1;
            a += 2;
            return b;
        }
        double half(String a) {
            int b = 1;
            b += 1;
            return b;
        }
        boolean is() {
            int b = 1;
            b += 1;
            return b > 1;
        }
        void does(String a[]) {
            int b = 1;
            b += 1;
            b += 1;
        }
        abstract int none();
    }
}
"""


def found(language, text):
    functions, left = find_bodies("a", text, LANGUAGES[language])
    return {one.name: one for one in functions}, dict(left)


def test_a_body_between_braces_on_lines_of_their_own_is_cut_whole():
    functions, left = found("javascript", JAVASCRIPT)
    assert list(functions) == ["exports.sum", "Shop.name"]
    one = functions["exports.sum"]
    assert (one.first_line, one.last_line, one.start) == (2, 5, 1)
    assert one.replaced(JAVASCRIPT, one.body) == JAVASCRIPT
    assert one.replaced(JAVASCRIPT, one.stub).split("\n")[:4] == [
        "exports.sum = function (first, second) {",
        '  throw new Error("not written");',
        "}",
        "",
    ]
    assert left == {"fewer than 3 lines of body": 1, "the body shares a line with its braces": 1}


def test_plain_values_of_javascript():
    functions, _ = found("javascript", JAVASCRIPT)
    assert functions["exports.sum"].weak == ("  return undefined;", "  return first;")
    assert functions["Shop.name"].weak == ("    return undefined;", "    return [];")


def test_plain_values_of_go_have_the_declared_types_and_use_what_the_body_imported():
    functions, left = found("go", GO)
    assert left == {}
    kept = ["\tvar _ big.Int", "\t_ = fmt.Errorf", "\t_ = semver.New", "\t_ = str.ToUpper"]
    assert functions["Cart.Sum"].stub.split("\n") == [*kept, '\tpanic("not written")']
    assert [weak.split("\n") for weak in functions["Cart.Sum"].weak] == [
        [*kept, "\treturn *new(string), *new(error)"],
        [*kept, "\treturn name, *new(error)"],
    ]
    assert functions["Named"].weak == ("\treturn",)
    assert functions["Does"].weak == ("\treturn",)


def test_plain_values_of_java_have_the_declared_type():
    functions, left = found("java", JAVA)
    assert left == {"a constructor": 1}
    assert {name: [one.strip() for one in function.weak] for name, function in functions.items()} == {
        "Shop.Cart.sum": ["return null;", "return b;"],
        "Shop.Cart.half": ["return 0;"],
        "Shop.Cart.is": ["return false;", "return true;"],
        "Shop.Cart.does": ["return;"],
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_file_that_does_not_parse_is_counted(language):
    assert sum(found(language, "func class {{{")[1].values()) == 1


@pytest.mark.parametrize(
    ("language", "tests", "own"),
    [
        ("javascript", ["test/a.js", "a.test.mjs", "test-a.cjs", "eslint.config.js"], ["src/contest.js"]),
        ("go", ["a/b_test.go"], ["a/test.go"]),
        ("java", ["src/test/java/a/Shop.java"], ["src/main/java/a/Test.java"]),
    ],
)
def test_files_that_serve_tests_are_known(language, tests, own):
    assert [LANGUAGES[language].serves_tests(path) for path in (*tests, *own)] == [*[True] * len(tests), False]


def test_what_others_wrote_is_not_mined():
    assert not LANGUAGES["javascript"].holds("node_modules/a/a.js")
    assert not LANGUAGES["go"].holds("vendor/a/a.go")
    assert LANGUAGES["go"].holds("a/vendor.go")
