"""One small source per language, and what must be found in it."""

from dataclasses import dataclass

import pytest

from data_pipelines.document import Stratum
from data_pipelines.extract.registry import LANGUAGES, extractor_for
from data_pipelines.task_config import DocstringSection, InfillSection
from finetune.contracts.dataset import Role
from tests.unit.data_pipelines.mined import File, docstrings_of, infill_of


@dataclass(frozen=True, kw_only=True)
class Case:
    """A source; one block, statement and call of it; its documented function; an import and a path it may mean."""

    text: str
    block: str
    statement: str
    call: str
    name: str
    doc: str
    head_end: str
    body: str
    imports: tuple[str, ...] = ()
    path: tuple[str, str] = ("", "")
    importer: str = ""


JAVASCRIPT = Case(
    text="""import { tax } from './rates.js';
const shelf = require('../shelf');

/**
 * Weigh the items of a basket — ü.
 * @param items what lies in it
 */
export function weigh(items) {
  // a comment that says nothing
  const total = items.reduce((sum, item) => sum + item.grams, 0);
  if (total > shelf.limit) {
    throw new RangeError('too heavy for the shelf');
  }
  return total * tax(items);
}
""",
    block="throw new RangeError('too heavy for the shelf');",
    statement="return total * tax(items);",
    call="tax(items)",
    name="weigh",
    doc="/**\n * Weigh the items",
    head_end="weigh(items) {",
    body="// a comment that says nothing\n  const total",
    imports=("./rates.js", "../shelf"),
    path=("../shelf", "lib/shelf.js"),
    importer="lib/shop/basket.js",
)
TYPESCRIPT = Case(
    text="""import type { Item } from './item';

export class Basket {
  /** Weigh the items of a basket, tax included: ü. */
  @logged()
  weigh(items: Item[]): number {
    const total = <number>sum(items, (item) => item.grams);
    if (total > this.limit) {
      throw new RangeError('too heavy for the shelf');
    }
    return total;
  }
}
""",
    block="throw new RangeError('too heavy for the shelf');",
    statement="return total;",
    call="sum(items, (item) => item.grams)",
    name="weigh",
    doc="/** Weigh the items",
    head_end="weigh(items: Item[]): number {",
    body="const total",
    imports=("./item",),
    path=("./item", "src/shop/item.ts"),
    importer="src/shop/basket.ts",
)
JAVA = Case(
    text="""package shop;

import shop.shelf.Shelf;
import static shop.Rates.tax;

/** A basket of items. */
public class Basket {
    private final Shelf shelf = new Shelf(3);

    /**
     * Weigh the items of a basket: ü.
     */
    @Override
    public int weigh(List<Item> items) throws HeavyException {
        int total = 0;
        for (Item item : items) {
            total += item.grams();
        }
        return total * tax(items);
    }
}
""",
    block="total += item.grams();",
    statement="int total = 0;",
    call="item.grams()",
    name="weigh",
    doc="/**\n     * Weigh",
    head_end="throws HeavyException {",
    body="int total = 0;",
    imports=("shop.shelf.Shelf", "shop.Rates.tax"),
    path=("shop.Rates.tax", "core/src/main/java/shop/Rates.java"),
    importer="core/src/test/java/shop/BasketTest.java",
)
KOTLIN = Case(
    text="""package shop

import shop.shelf.Shelf
import shop.rates.*

class Basket(private val shelf: Shelf) {
    /** Weigh the items of a basket: ü. */
    @Throws(HeavyException::class)
    fun weigh(items: List<Item>): Int {
        var total = 0
        for (item in items) {
            total += item.grams()
        }
        return total * tax(items)
    }
}
""",
    block="total += item.grams()",
    statement="return total * tax(items)",
    call="tax(items)",
    name="weigh",
    doc="/** Weigh",
    head_end="(items: List<Item>): Int {",
    body="var total = 0",
    imports=("shop.shelf.Shelf", "shop.rates"),
    path=("shop.shelf.Shelf", "app/src/commonMain/kotlin/shop/shelf/Shelf.kt"),
    importer="app/src/commonTest/kotlin/shop/BasketTest.kt",
)
GO = Case(
    text="""package shop

import (
	"fmt"

	"corp.io/shop/shelf"
)

// Weigh adds up the grams of the items: ü.
// It stops at the limit of the shelf.
func (b *Basket) Weigh(items []Item) (int, error) {
	total := 0
	for _, item := range items {
		total += item.Grams()
	}
	if total > shelf.Limit {
		return 0, fmt.Errorf("too heavy: %d", total)
	}
	return total, nil
}
""",
    block="total += item.Grams()",
    statement="total := 0",
    call='fmt.Errorf("too heavy: %d", total)',
    name="Weigh",
    doc="// Weigh adds up the grams of the items: ü.\n// It stops",
    head_end="(int, error) {",
    body="total := 0",
    imports=("fmt", "corp.io/shop/shelf"),
    path=("corp.io/shop/shelf", "shelf/shelf.go"),
    importer="basket.go",
)
RUST = Case(
    text="""use crate::shelf::Shelf;
mod rates;

impl Basket {
    /// Weigh the items of a basket: ü.
    /// Stops at the limit.
    #[must_use]
    pub fn weigh(&self, items: &[Item]) -> u32 {
        let total: u32 = items.iter().map(|item| item.grams()).sum();
        if total > self.shelf.limit {
            panic!("too heavy: {}", total);
        }
        total * rates::tax(items)
    }
}
""",
    block='panic!("too heavy: {}", total);',
    statement="let total: u32 = items.iter().map(|item| item.grams()).sum();",
    call="rates::tax(items)",
    name="weigh",
    doc="/// Weigh the items of a basket: ü.\n    /// Stops",
    head_end="-> u32 {",
    body="let total",
    imports=("crate::shelf::Shelf", "rates"),
    path=("crate::shelf::Shelf", "shop/src/shelf.rs"),
    importer="shop/src/basket.rs",
)
C = Case(
    text="""#include "shelf.h"
#include <stdio.h>

/* Weigh the items of a basket: ü. */
static int weigh(const struct item *items, size_t num_items)
{
    int total = 0;
    for (size_t i = 0; i < num_items; i++) {
        total += item_grams(&items[i]);
    }
    if (total > SHELF_LIMIT)
        fprintf(stderr, "too heavy: %d", total);
    return total;
}
""",
    block="total += item_grams(&items[i]);",
    statement="int total = 0;",
    call="item_grams(&items[i])",
    name="weigh(const struct item *items, size_t num_items)",
    doc="/* Weigh",
    head_end="num_items)\n{",
    body="int total = 0;",
    imports=("shelf.h",),
    path=("shelf.h", "include/shelf.h"),
    importer="src/basket.c",
)
CPP = Case(
    text="""#include "shop/shelf.hpp"

namespace shop {
// Weigh the items of a basket, whatever their type: ü.
template <typename Item>
int weigh(const std::vector<Item>& items) {
  int total = 0;
  for (const auto& item : items) {
    total += item.grams();
  }
  if (total > limit) throw std::range_error("too heavy");
  return total;
}
}  // namespace shop
""",
    block="total += item.grams();",
    statement="return total;",
    call="item.grams()",
    name="weigh(const std::vector<Item>& items)",
    doc="// Weigh",
    head_end="items) {",
    body="int total = 0;",
    imports=("shop/shelf.hpp",),
    path=("shop/shelf.hpp", "include/shop/shelf.hpp"),
    importer="src/shop/basket.cpp",
)
CSHARP = Case(
    text="""using System.Linq;
using Shop.Shelves;

namespace Shop
{
    public class Basket
    {
        /// <summary>
        /// Weigh the items of a basket: ü.
        /// </summary>
        [Pure]
        public int Weigh(IList<Item> items)
        {
            var total = items.Sum(item => item.Grams);
            if (total > Shelf.Limit)
            {
                throw new HeavyException("too heavy");
            }
            return total;
        }
    }
}
""",
    block='throw new HeavyException("too heavy");',
    statement="var total = items.Sum(item => item.Grams);",
    call='new HeavyException("too heavy")',
    name="Weigh",
    doc="/// <summary>\n        /// Weigh",
    head_end="(IList<Item> items)\n        {",
    body="var total",
    imports=("System.Linq", "Shop.Shelves"),
)
RUBY = Case(
    text="""require 'json'
require_relative 'shelf'

class Basket
  # Weigh the items of a basket: ü.
  # Stops at the limit of the shelf.
  def weigh(items, limit: 9)
    total = items.sum { |item| item.grams }
    if total > limit
      raise ArgumentError, 'too heavy'
    end
    total * tax(items)
  end
end
""",
    block="raise ArgumentError, 'too heavy'",
    statement="total = items.sum { |item| item.grams }",
    call="tax(items)",
    name="weigh",
    doc="# Weigh the items of a basket: ü.\n  # Stops",
    head_end="def weigh(items, limit: 9)",
    body="total = items",
    imports=("json", "shelf"),
    path=("shelf", "lib/shop/shelf.rb"),
    importer="lib/shop/basket.rb",
)
PHP = Case(
    text="""<?php

namespace Corp\\Shop;

use Corp\\Shop\\Shelves\\Shelf;
require_once __DIR__ . '/rates.php';

class Basket
{
    /**
     * Weigh the items of a basket: ü.
     */
    public function weigh(array $items): int
    {
        $total = 0;
        foreach ($items as $item) {
            $total += $item->grams();
        }
        return $total * tax($items);
    }
}
""",
    block="$total += $item->grams();",
    statement="$total = 0;",
    call="tax($items)",
    name="weigh",
    doc="/**\n     * Weigh",
    head_end="(array $items): int\n    {",
    body="$total = 0;",
    imports=("Corp\\Shop\\Shelves\\Shelf", "/rates.php"),
    path=("Corp\\Shop\\Shelves\\Shelf", "src/Shelves/Shelf.php"),
    importer="src/Basket.php",
)
BASH = Case(
    text="""#!/usr/bin/env bash
source "$(dirname "$0")/shelf.sh"
. ./rates.sh

# Weigh the items of a basket: ü.
weigh() {
  local total=0
  for item in "$@"; do
    total=$((total + $(grams "$item")))
  done
  if [ "$total" -gt "$LIMIT" ]; then
    echo "too heavy: $total" >&2
  fi
  printf '%d\\n' "$total"
}
""",
    block='total=$((total + $(grams "$item")))',
    statement="local total=0",
    call="printf '%d\\n' \"$total\"",
    name="weigh",
    doc="# Weigh",
    head_end="weigh() {",
    body="local total=0",
    imports=('$(dirname "$0")/shelf.sh', "./rates.sh"),
    path=("./rates.sh", "bin/rates.sh"),
    importer="bin/basket.sh",
)
SQL = Case(
    text="""-- What lies in a basket.
CREATE TABLE items (
  id INTEGER PRIMARY KEY,
  grams INTEGER NOT NULL
);

-- Weigh the items of a basket: ü.
CREATE FUNCTION weigh(basket integer) RETURNS integer AS $$
BEGIN
  RETURN heaviest(basket)
    + lightest(basket)
    + average(basket);
END;
$$ LANGUAGE plpgsql;

SELECT coalesce(sum(grams), 0) FROM items WHERE id > 3;
""",
    block="id INTEGER PRIMARY KEY,\n  grams INTEGER NOT NULL",
    statement="SELECT coalesce(sum(grams), 0) FROM items WHERE id > 3",
    call="sum(grams)",
    name="weigh",
    doc="-- Weigh",
    head_end="AS $$\nBEGIN",
    body="RETURN heaviest",
)
CASES = {
    "javascript": JAVASCRIPT,
    "typescript": TYPESCRIPT,
    "java": JAVA,
    "kotlin": KOTLIN,
    "go": GO,
    "rust": RUST,
    "c": C,
    "cpp": CPP,
    "csharp": CSHARP,
    "ruby": RUBY,
    "php": PHP,
    "bash": BASH,
    "sql": SQL,
}
each_language = pytest.mark.parametrize(("language", "case"), CASES.items(), ids=CASES)


def units_of(language, case):
    return extractor_for(language).units(case.text.encode())


def spans_of(language, case):
    return {
        stratum: [case.text.encode()[span.start : span.end].decode() for span in spans]
        for stratum, spans in units_of(language, case).spans.items()
    }


def part(row, role):
    return "".join(segment.text for segment in row.segments if segment.role is role)


def test_each_language_but_python_has_a_case():
    assert {*CASES, "python"} == set(LANGUAGES)


@each_language
def test_spans_are_whole_characters_of_the_right_kind(language, case):
    assert extractor_for(language).parses(case.text.encode())
    spans = spans_of(language, case)
    assert case.block in spans[Stratum.BLOCK]
    assert case.statement in spans[Stratum.STATEMENT]
    assert case.call in spans[Stratum.CALL]
    assert any(case.statement.startswith(line.rstrip(";")) for line in spans[Stratum.LINE])
    assert all(span and span == span.strip() for found in spans.values() for span in found)


@each_language
def test_no_line_is_a_comment_an_import_or_a_bracket(language, case):
    lines = spans_of(language, case)[Stratum.LINE]
    assert not [line for line in lines if "ü" in line or "Weigh the" in line]
    assert not [line for line in lines if line.strip("{}();,") in ("", "end", "fi", "done")]
    paths = [name for name in case.imports if not name.isidentifier()]
    assert not [line for line in lines for name in paths if name in line]


@each_language
def test_the_documented_function_is_found(language, case):
    text = case.text.encode()
    (unit,) = units_of(language, case).functions
    assert unit.name == case.name
    assert text[unit.whole.start :].decode().startswith(case.doc)
    assert text[: unit.head_end].decode().endswith(case.head_end)
    assert text[unit.body_start : unit.body_end].decode().startswith(case.body)
    assert 20 < unit.doc_chars < len(text[unit.doc.start : unit.doc.end])
    assert not unit.is_stub


@each_language
def test_its_row_is_the_function_without_its_indentation(language, case):
    text = case.text.encode()
    section = DocstringSection(min_doc_chars=5)
    extractor = extractor_for(language)
    units = units_of(language, case)
    file = File("shop/basket", language)
    (row,) = docstrings_of(file, text, units=units, extractor=extractor, section=section)
    head, answer = part(row, Role.INSTRUCTION), part(row, Role.ANSWER)
    assert answer.startswith(head + "\n")
    whole = units.functions[0].whole
    assert answer.split() == text[whole.start : whole.end].decode().split()
    assert not answer[0].isspace()


@each_language
def test_imports_and_where_they_may_lie(language, case):
    assert tuple(units_of(language, case).imports) == case.imports
    name, path = case.path
    assert not name or path in extractor_for(language).module_paths(name, case.importer)


@each_language
@pytest.mark.parametrize("stratum", list(Stratum))
def test_prefix_target_suffix_are_the_file(language, case, stratum):
    text = case.text.encode()
    strata = {name: float(name == stratum) for name in ("block", "statement", "call", "line", "random")}
    section = InfillSection(bytes_per_row=100, strata=strata)
    file, extractor = File("shop/basket", language), extractor_for(language)
    rows = infill_of(file, text, units=units_of(language, case), extractor=extractor, section=section, seed=1)
    assert rows
    for row in rows:
        assert part(row, Role.PREFIX) + part(row, Role.TARGET) + part(row, Role.SUFFIX) == case.text
