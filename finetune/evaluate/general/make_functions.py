"""Make functions.json, what the real library gives: python -m finetune.evaluate.general.make_functions"""

import bisect
import calendar
import fnmatch
import functools
import heapq
import html
import itertools
import json
import math
import operator
import posixpath
import statistics
import string
import textwrap
import urllib.parse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

FUNCTIONS_NAME = "functions.json"
Row = tuple[str, str, Callable[..., Any], list[list[Any]]]

# name and parameters, what is asked in words of our own, the library's function, inputs
ROWS: tuple[Row, ...] = (
    ("bisect_left(items, x)", "Index of the first of the sorted items that is not below x; len(items) if none.",
     bisect.bisect_left, [[[1, 3, 5], 3], [[1, 3, 5], 4], [[], 1], [[2, 2, 2], 2], [[1], 9]]),
    ("bisect_right(items, x)", "Index of the first of the sorted items that is above x; len(items) if none.",
     bisect.bisect_right, [[[1, 3, 5], 3], [[1, 3, 5], 0], [[], 1], [[2, 2, 2], 2]]),
    ("isleap(year)", "Whether year has 366 days in the Gregorian calendar.",
     calendar.isleap, [[2000], [1900], [2024], [2023]]),
    ("gcd(a, b)", "Greatest common divisor of two whole numbers, never negative; gcd(0, 0) is 0.",
     math.gcd, [[12, 18], [0, 5], [0, 0], [-4, 6], [7, 13]]),
    ("comb(n, k)", "Number of ways to choose k of n items; 0 if k is above n.",
     math.comb, [[5, 2], [5, 0], [3, 4], [30, 15]]),
    ("isqrt(n)", "The largest whole number whose square is at most n.", math.isqrt, [[0], [15], [16], [10**20 + 1]]),
    ("factorial(n)", "Product of the whole numbers from 1 to n.", math.factorial, [[0], [1], [5], [20]]),
    ("basename(path)", "What follows the last slash of path; path itself if there is none.",
     posixpath.basename, [["/a/b.txt"], ["b"], ["/a/"], [""]]),
    ("dirname(path)", "What comes before the last slash of path, without slashes at its end unless it is all slashes.",
     posixpath.dirname, [["/a/b.txt"], ["b"], ["/a/"], ["/b"]]),
    ("splitext(path)", "Pair of path without its last extension and that extension with its dot, '' if there is none. "
     "Dots that a file name begins with start no extension.",
     posixpath.splitext, [["a.txt"], ["a.tar.gz"], [".bashrc"], ["d.x/f"], ["plain"]]),
    ("commonprefix(names)", "The longest text that all of the list names begin with; '' for an empty list.",
     posixpath.commonprefix, [[["abc", "abd"]], [["a", "b"]], [[]], [["same", "same"]]]),
    ("normpath(path)", "path without empty parts, '.' parts and parts undone by '..'; '.' if nothing is left.",
     posixpath.normpath, [["a//b/./c/../d"], [""], ["/.."], ["../a"], ["a/.."]]),
    ("median(values)", "Middle of the sorted values; for an even number of them the mean of the middle two.",
     statistics.median, [[[3, 1, 2]], [[4, 1, 2, 3]], [[7]]]),
    ("mode(values)", "The most frequent of values, the first met among equals.",
     statistics.mode, [[[1, 2, 2]], [["b", "a", "a", "b"]], [[5]]]),
    ("capwords(text)", "The words of text, each with a capital first letter and the rest small, joined by one space.",
     string.capwords, [["hello world"], ["  a  TWO "], [""]]),
    ("dedent(text)", "text without the white space that all its lines which are not blank start with.",
     textwrap.dedent, [["  a\n  b\n"], ["  a\n    b\n"], ["a\n b"], [""]]),
    ("indent(text, prefix)", "text with prefix before each line that is not blank.",
     textwrap.indent, [["a\nb\n", "> "], ["a\n\nb", "  "], ["", "x"]]),
    ("escape(text)", "text with & < > and both kinds of quotes as &amp; &lt; &gt; &quot; and &#x27;.",
     html.escape, [["<a & 'b'>"], ['"'], ["plain"]]),
    ("quote(text)", "ASCII text as part of a URL: all but letters, digits and _.-~/ as % and two capital hex digits.",
     urllib.parse.quote, [["a b"], ["x/y~z"], ["50%"], [""]]),
    ("nsmallest(n, values)", "The n least of values, in order.",
     heapq.nsmallest, [[2, [3, 1, 2]], [5, [2, 1]], [0, [1]]]),
    ("accumulate(values)", "List of running sums of values.",
     lambda values: list(itertools.accumulate(values)), [[[1, 2, 3]], [[]], [[5, -5]]]),
    ("pairwise(values)", "List of pairs of each of values with the one after it.",
     lambda values: list(itertools.pairwise(values)), [[[1, 2, 3]], [[1]], [[]]]),
    ("product(values)", "All values multiplied, 1 if there are none.",
     lambda values: functools.reduce(operator.mul, values, 1), [[[2, 3, 4]], [[]], [[5, 0]]]),
    ("most_common(values)", "List of pairs of a value and how often it is in values, most frequent first, those "
     "that are as frequent in the order in which they were met.",
     lambda values: Counter(values).most_common(), [[["a", "b", "a"]], [[]], [["x", "y"]]]),
    ("fnmatchcase(name, pattern)", "Whether name as a whole matches pattern, where * stands for any text and ? for one "
     "character.", fnmatch.fnmatchcase, [["a.py", "*.py"], ["a.py", "?.py"], ["ab.py", "?.py"], ["", "*"], ["A", "a"]]),
)  # fmt: skip


def main() -> None:
    """Write functions.json beside this file."""
    rows = [
        {"call": call, "asked": asked, "cases": [[given, real(*given)] for given in inputs]}
        for call, asked, real, inputs in ROWS
    ]
    path = Path(__file__).with_name(FUNCTIONS_NAME)
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
