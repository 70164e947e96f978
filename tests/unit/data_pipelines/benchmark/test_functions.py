from data_pipelines.benchmark.functions import find_functions, is_test_file

TEXT = '''class Shop:
    @property
    def total(self):
        """The sum."""
        found = 0
        for one in self.items:
            found += one
        return found

    def short(self):
        return 1


def many(first, second):
    for one in first:
        yield one
    yield second
'''


def test_a_body_behind_its_docstring_is_cut_whole():
    functions, left = find_functions("shop.py", TEXT)
    total = functions[0]
    assert (total.name, total.start, total.first_line, total.last_line) == ("Shop.total", 2, 5, 8)
    assert total.body.startswith("        found = 0") and total.body.endswith("return found")
    assert total.replaced(TEXT, total.body) == TEXT
    assert total.replaced(TEXT, total.stub).split("\n")[3:6] == [
        '        """The sum."""',
        "        raise NotImplementedError",
        "",
    ]
    assert dict(left) == {"fewer than 3 lines of body": 1}


def test_weak_bodies_return_what_costs_no_thought():
    functions, _ = find_functions("shop.py", TEXT)
    assert functions[0].weak == ("        return None", "        return []")
    assert functions[1].weak == ("    return None", "    return iter(())")
    (copied,), _ = find_functions(
        "a.py", "class A:\n    def f(self, x):\n        x = 1\n        x = 2\n        return x\n"
    )
    assert copied.weak[1] == "        return x"


def test_a_body_on_the_line_of_its_def_is_left_out():
    _, left = find_functions("a.py", "def f(x): return [\n    x,\n    x,\n]\n")
    assert dict(left) == {"the body begins on another statement's line": 1}


def test_a_file_that_does_not_parse_is_counted():
    assert sum(find_functions("a.py", "def f(:\n")[1].values()) == 1


def test_files_that_serve_tests_are_known():
    assert is_test_file("tests/asking.py") and is_test_file("a/test_b.py") and is_test_file("conftest.py")
    assert not is_test_file("src/contest.py")


def test_what_the_compiler_warns_of_is_no_reason_to_leave_a_file_out():
    functions, left = find_functions("shop.py", "def odd():\n    a = '\\d'\n    a += a\n    return a\n")
    assert [one.name for one in functions] == ["odd"] and not left
