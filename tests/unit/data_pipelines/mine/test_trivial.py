import pytest

from data_pipelines.mine.trivial import FileChange, looks_trivial, trivial_reason


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("f(a,b)\n", "f(\n    a,\n    b,\n)\n", "changes formatting only"),
        ("x = 'a'\n", 'x = "a"\n', "changes formatting only"),
        ("if (a) {b();}\n", "if (a)\n{\n    b();\n}\n", "changes formatting only"),
        ("total = 1\nreturn total\n", "net_total = 1\nreturn net_total\n", "renames only"),
        ("a1 = b1\nf(a1, b1)\n", "a2 = b2\nf(a2, b2)\n", "renames only"),
        ("total = 1\nreturn total\n", "net = 1\nreturn total\n", None),
        ("a = total + rest\nb = total\nc = rest", "a = total + total\nb = total\nc = total", None),
        ("x1 = y1\nf(x1, y1)\n", "z = z\nf(z, z)\n", None),
        ("return total\n", "return amount\n", None),
        ("x = True\ny = True\n", "x = False\ny = False\n", None),
        ("x = 1\ny = 1\n", "x = 2\ny = 2\n", None),
        ("f(a)\n", "f(a, b)\n", None),
        ("a, b = b, a\n", "b, a = a, b\n", None),
    ],
)
def test_edits_of_form_and_of_names_alone(before, after, reason):
    change = FileChange(before, after, "javascript")
    assert trivial_reason([change]) == reason
    assert looks_trivial([change]) or reason is None


@pytest.mark.parametrize(
    ("language", "before", "after", "is_form"),
    [
        ("java", "f('#');", 'f("#");', False),
        ("ruby", "f '#{x}'", 'f "#{x}"', False),
        ("python", "f('#')\n", 'f("#")\n', True),
        ("python", "if a:\n    b()\n    c()\n", "if a:\n    b()\nc()\n", False),
        ("python", "if a:\n  b()\n", "if a:\n    b()\n", True),
        ("python", "b()\n", "b()  # why\n", False),
        ("python", "print 'a'\n", 'print "a"\n', False),
        ("go", "if a {\nb()\n}\n", "if a {\n\tb()\n}\n", True),
    ],
)
def test_what_is_form_in_one_language_says_something_in_another(language, before, after, is_form):
    assert (trivial_reason([FileChange(before, after, language)]) == "changes formatting only") is is_form


def test_all_files_of_a_commit_count_together():
    def reason(*files):
        return trivial_reason([FileChange(before, after, "javascript") for before, after in files])

    rename = ("total = 1\nreturn total\n", "net_total = 1\nreturn net_total\n")
    assert reason(rename, ("f(total)\n", "f(net_total)\n")) == "renames only"
    assert reason(rename, ("f(total)\n", "f(total)\n")) is None, "one place was forgotten"
    assert reason(rename, ("a = 1\n", "a = 1 + 1\n")) is None
    assert reason(("a=1\n", "a = 1\n"), ("b=1\n", "b = 1\n")) == "changes formatting only"


def test_what_differs_tells_most_edits_apart():
    rename = FileChange("total = 1\nreturn total\n", "net = 1\nreturn net\n", "javascript")
    assert looks_trivial([rename])
    for before, after in (("a = b\n", "a = f(b)\n"), ("f(a)\n", "f(c)\n"), ("f = 1\n", "f: 1\n")):
        assert not looks_trivial([rename, FileChange(before, after, "javascript")]), after
