"""Small repositories in seven languages, each with a cart that imports prices, and tests of it."""

import pytest

from data_pipelines.extract.registry import extractor_for
from data_pipelines.filters.language import language_of
from data_pipelines.mine.card import LoadedFile, card_of
from data_pipelines.mine.pick import pick
from data_pipelines.task_config import TasksSection
from tests.unit.data_pipelines.mined import File

PYTHON = {
    "shop/price.py": '''"""Prices — ü."""


def round_price(value, digits):
    """Round the value half up, to so many digits after the point."""
    factor = 10**digits
    scaled = value * factor + 0.5
    return int(scaled) / factor


def add_tax(value, rate):
    """Add tax at the given rate and round the result to cents."""
    if rate < 0:
        raise ValueError("a negative rate")
    return round_price(value * (1 + rate), 2)
''',
    "shop/cart.py": '''import math

from shop.price import add_tax, round_price

# Lines of a cart are pairs.


class Cart:
    """What a customer wants to buy."""

    def __init__(self):
        self.lines = []

    def total_price(self, rate):
        """Sum up all lines of the cart and add tax at this rate."""
        net = 0
        for amount, price in self.lines:
            net += amount * price

        if not math.isfinite(net):
            raise ValueError("größer als alles")
        return add_tax(round_price(net, 4), rate)
''',
    "shop/unrelated.py": "".join(
        f"def spin_{n}(wheel):\n    wheel.turn({n})\n    return wheel\n\n\n" for n in range(9)
    ),
    "tests/test_cart.py": """import pytest

from shop.cart import Cart


def make_cart(*lines):
    cart = Cart()
    cart.lines = list(lines)
    return cart


@pytest.mark.parametrize("rate", [0, 0.2])
def test_total_price_adds_tax(rate):
    cart = make_cart((1, 10), (2, 5))
    total = cart.total_price(rate)
    assert total == 20 * (1 + rate)


def test_snapshot_of_everything(snapshot):
    cart = make_cart((1, 10))
    assert cart.total_price(0) == snapshot


def test_nothing_is_checked():
    cart = make_cart((1, 10))
    cart.total_price(0)
""",
}
GO = {
    "price/price.go": """package price

// Round rounds the value half up, to so many digits after the point.
func RoundPrice(value float64, digits int) float64 {
	factor := pow(10, digits)
	scaled := value*factor + 0.5
	return floor(scaled) / factor
}
""",
    "price/price_test.go": """package price

import "testing"

func TestRoundPrice(t *testing.T) {
	got := RoundPrice(1.005, 2)
	if got != 1.01 {
		t.Errorf("RoundPrice gave %v", got)
	}
}
""",
    "cart/cart.go": """package cart

import "corp.io/shop/price"

type Line struct {
	Amount int
	Price  float64
}

// Total sums up the lines of a cart — größer wird es nie.
func Total(lines []Line) float64 {
	net := 0.0
	for _, line := range lines {
		net += float64(line.Amount) * line.Price
	}
	return price.RoundPrice(net, 2)
}
""",
}
JAVA = {
    "src/main/java/shop/Price.java": """package shop;

public final class Price {
    /** Rounds the value half up, to so many digits after the point. */
    public static double roundPrice(double value, int digits) {
        double factor = Math.pow(10, digits);
        double scaled = value * factor + 0.5;
        return Math.floor(scaled) / factor;
    }
}
""",
    "src/main/java/shop/Cart.java": """package shop;

import shop.Price;

public class Cart {
    private double net = 0;

    /** Adds an amount of goods at a price each, é included. */
    public void addLine(int amount, double price) {
        if (amount < 0) {
            throw new IllegalArgumentException("amount");
        }
        net = Price.roundPrice(net + amount * price, 2);
    }
}
""",
    "src/test/java/shop/PriceTest.java": """package shop;

import org.junit.jupiter.api.Test;

class PriceTest {
    @Test
    void roundsPriceHalfUp() {
        double rounded = Price.roundPrice(1.005, 2);
        assertEquals(1.01, rounded);
    }
}
""",
}
TYPESCRIPT = {
    "src/price.ts": """/** Rounds the value half up, to so many digits after the point. */
export function roundPrice(value: number, digits: number): number {
  const factor = 10 ** digits;
  const scaled = value * factor + 0.5;
  return Math.floor(scaled) / factor;
}
""",
    "src/cart.ts": """import { roundPrice } from "./price";

export interface Line {
  amount: number;
  price: number;
}

/** Sums up what the lines of a cart cost — ohne Gewähr für Größe. */
export function totalPrice(lines: Line[]): number {
  let net = 0;
  for (const line of lines) {
    net += line.amount * line.price;
  }
  return roundPrice(net, 2);
}
""",
    "src/cart.test.ts": """import { totalPrice } from "./cart";

describe("totalPrice", () => {
  it("sums up the lines", () => {
    const lines = [{ amount: 2, price: 5 }];
    expect(totalPrice(lines)).toBe(10);
  });
});
""",
}
RUST = {
    "src/price.rs": """/// Rounds the value half up, to so many digits after the point.
pub fn round_price(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    let scaled = value * factor + 0.5;
    scaled.floor() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_up() {
        let rounded = round_price(1.005, 2);
        assert_eq!(rounded, 1.01);
    }
}
""",
    "src/cart.rs": """use crate::price::round_price;

/// Sums up what all lines of a cart cost — ü.
pub fn total_price(lines: &[(f64, f64)]) -> f64 {
    let mut net = 0.0;
    for (amount, price) in lines {
        net += amount * price;
    }
    round_price(net, 2)
}
""",
}
RUBY = {
    "lib/price.rb": """# Rounds the value half up, to so many digits after the point.
def round_price(value, digits)
  factor = 10**digits
  scaled = value * factor + 0.5
  scaled.floor / factor
end
""",
    "lib/cart.rb": """require_relative "price"

# Sums up what all lines of a cart cost, Größe egal.
def total_price(lines)
  net = 0
  lines.each do |amount, price|
    net += amount * price
  end
  round_price(net, 2)
end
""",
    "spec/cart_spec.rb": """require_relative "../lib/cart"

describe "total_price" do
  it "sums up the lines" do
    lines = [[2, 5]]
    expect(total_price(lines)).to eq(10)
  end
end
""",
}
C = {
    "price.h": "double round_price(double value, int digits);\n",
    "price.c": """#include "price.h"
#include <math.h>

/* Rounds the value half up, to so many digits after the point. */
double round_price(double value, int digits) {
    double factor = pow(10, digits);
    double scaled = value * factor + 0.5;
    return floor(scaled) / factor;
}
""",
    "cart.c": """#include "price.h"

/* Sums up what all lines of a cart cost: größer geht nicht. */
double total_price(const double *amounts, const double *prices, int count) {
    double net = 0;
    for (int place = 0; place < count; place++) {
        net += amounts[place] * prices[place];
    }
    return round_price(net, 2);
}
""",
}
REPOSITORIES = {"python": PYTHON, "go": GO, "java": JAVA, "typescript": TYPESCRIPT, "rust": RUST, "ruby": RUBY, "c": C}
# so small that each function qualifies
TASKS = {
    "infill": {"bytes_per_row": 100},
    "repo_infill": {"bytes_per_row": 100, "max_rows_per_file": 6, "min_target_bytes": 12},
    "search_replace": {"bytes_per_row": 100, "max_rows_per_file": 6},
    "describe": {"share": 1.0, "max_rows_per_file": 6},
}


class Shop:
    """A repository in memory, picked and carded."""

    def __init__(self, files, tasks, clusters=None):
        self.tasks = tasks
        self.files = {path: load_file(path, text, tasks) for path, text in files.items()}
        self.cards = {
            path: card_of(
                loaded.picks,
                path=path,
                language=loaded.file.language,
                cluster=(clusters or {}).get(path, path),
                extractor=extractor_for(loaded.file.language),
                paths=self.files.keys(),
            )
            for path, loaded in self.files.items()
        }

    def load(self, path):
        return self.files[path]


def load_file(path, text, tasks):
    content = text.encode()
    language = language_of(path, text) or ""
    extractor = extractor_for(language)
    units = extractor.units(content)
    assert units.parses, path
    picks = pick(content, path=path, blob="b" * 40, units=units, extractor=extractor, tasks=tasks, seed=0)
    return LoadedFile(File(path, language), content, picks)


def tasks_of(**changes):
    settings = {name: {**TASKS.get(name, {}), **changes.get(name, {})} for name in {*TASKS, *changes}}
    return TasksSection.model_validate(settings)


@pytest.fixture(scope="session")
def make_shop():
    """make_shop(language or files, clusters=None, **task settings) gives a Shop."""

    def make(files, *, clusters=None, **changes):
        return Shop(REPOSITORIES[files] if isinstance(files, str) else files, tasks_of(**changes), clusters)

    return make


@pytest.fixture(params=sorted(REPOSITORIES))
def shop_of(request, make_shop):
    """A Shop in each language in turn."""
    return make_shop(request.param)
