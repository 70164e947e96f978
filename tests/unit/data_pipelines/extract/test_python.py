from data_pipelines.document import Stratum
from data_pipelines.extract.python import PythonExtractor

TEXT = '''"""Module."""
import os.path as p
from . import near
from ..far import (one, two as zwei)
from shop.cart import Cart


class Basket:
    """A basket."""

    @property
    def weight(self):
        """How heavy it is: ü."""
        total = sum(item.weight for item in self.items)
        if total < 0:
            raise ValueError("negative")
        return total


def bare(x):
    return x
'''.encode()
EXTRACTOR = PythonExtractor()


def cut(span):
    return TEXT[span.start : span.end].decode()


def test_spans_are_syntax_nodes():
    spans = {stratum: [cut(span) for span in found] for stratum, found in EXTRACTOR.units(TEXT).spans.items()}
    assert 'raise ValueError("negative")' in spans[Stratum.BLOCK]
    assert "return total" in spans[Stratum.STATEMENT]
    assert '"""Module."""' not in spans[Stratum.STATEMENT], "a docstring is no statement to guess"
    assert 'ValueError("negative")' in spans[Stratum.CALL]
    assert '("negative")' in spans[Stratum.CALL]
    assert "total = sum(item.weight for item in self.items)" in spans[Stratum.LINE]
    assert not any(line.startswith(("import", "from", "@", '"""')) for line in spans[Stratum.LINE])


def test_documented_functions_include_their_decorator():
    (unit,) = EXTRACTOR.units(TEXT).functions
    assert unit.name == "weight"
    assert cut(unit.whole).startswith("@property")
    assert cut(unit.doc) == '"""How heavy it is: ü."""'
    assert TEXT[unit.body_start :].startswith(b"total =")


def test_imports_and_where_they_may_lie():
    units = EXTRACTOR.units(TEXT)
    assert units.imports == ["os.path", ".near", "..far.one", "..far.two", "shop.cart.Cart"]
    paths = EXTRACTOR.module_paths
    assert paths("shop.cart.Cart", "shop/main.py")[:4] == [
        "shop/cart/Cart.py",
        "shop/cart/Cart/__init__.py",
        "shop/cart.py",
        "shop/cart/__init__.py",
    ]
    assert "shop/near.py" in paths(".near", "shop/main.py")
    assert "far/one.py" in paths("..far.one", "shop/sub/../main.py") or "shop/far.py" in paths(
        "..far.one", "shop/sub/a.py"
    )
    assert "src/shop/cart.py" in paths("shop.cart", "src/shop/main.py")


def test_syntax_errors_and_odd_texts():
    assert not EXTRACTOR.parses(b"def f(x:\n    return x\n")
    assert EXTRACTOR.units(b"def (:\n").parses is False
    assert EXTRACTOR.units(b"").parses
    assert not EXTRACTOR.parses(b"(" * 50_000)
    assert EXTRACTOR.units(b"x = " + b"(" * 3_000 + b"1" + b")" * 3_000 + b"\n") is not None
