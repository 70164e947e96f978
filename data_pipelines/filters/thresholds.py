"""Limits by language, as data; a language that is not listed has those of the pipeline's filters.

Sources: StarCoder2 (arXiv 2402.19173: lines of up to 100,000 characters in HTML, JSON, Markdown, text and XML; 512
lines in text, JSON and YAML; letters and digits instead of letters in assembly) and StarCoder's table by suffix (JSON
and YAML up to 5,000 characters). SQL's lines are our own: a statement is often one line, and dumps have a filter.
"""

from dataclasses import dataclass, fields

from data_pipelines.config import FilterSection, LimitSection

# a text, not code: long lines are its nature
LONG_LINES = {"max_line_chars": 100_000, "max_mean_line_chars": 100_000}
TABLE: dict[str, LimitSection] = {
    "assembly": LimitSection(min_alphabetic_share=0),
    "css": LimitSection(max_bytes=50_000),
    "csv": LimitSection(max_bytes=5_000, max_lines=512, **LONG_LINES),
    "html": LimitSection(max_bytes=100_000, **LONG_LINES),
    "json": LimitSection(max_bytes=5_000, max_lines=512, **LONG_LINES),
    "markdown": LimitSection(**LONG_LINES),
    "notebook": LimitSection(max_bytes=5_000, max_lines=512, **LONG_LINES),
    "restructuredtext": LimitSection(**LONG_LINES),
    "sql": LimitSection(max_line_chars=5_000, max_mean_line_chars=200),
    "text": LimitSection(max_lines=512, **LONG_LINES),
    "toml": LimitSection(max_bytes=20_000),
    "xml": LimitSection(max_bytes=50_000, **LONG_LINES),
    "yaml": LimitSection(max_bytes=5_000, max_lines=512),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one language under some filters: bytes, lines, characters of a line, shares of characters."""

    max_bytes: int
    max_lines: int
    max_line_chars: int
    max_mean_line_chars: int
    min_alphanumeric_share: float
    min_alphabetic_share: float


def limits_of(language: str, section: FilterSection) -> Limits:
    """The pipeline's own limits for the language win over the table's, and these over the filters' general ones."""
    values = {item.name: getattr(section, item.name) for item in fields(Limits)}
    for limits in (TABLE.get(language), section.thresholds.get(language)):
        if limits is not None:
            values |= limits.model_dump(exclude_none=True)
    return Limits(**values)
