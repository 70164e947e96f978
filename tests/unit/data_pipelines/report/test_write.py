"""The whole page, read the way a browser reads it."""

import io
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from data_pipelines.report.write import write_report
from finetune.contracts.dataset import DROPPED_NAME, REPORT_NAME, Role, Segment, Task
from finetune.contracts.errors import DatasetError
from finetune.terminal.progress import Progress

VOID = {"meta", "rect", "line", "br"}
TAGS = {
    "a", "article", "b", "body", "br", "caption", "code", "dd", "details", "div", "dl", "dt", "footer", "g", "h1",
    "h2", "h3", "h4", "head", "header", "html", "li", "line", "main", "mark", "meta", "nav", "p", "pre", "rect",
    "section", "small", "span", "style", "summary", "svg", "table", "tbody", "td", "th", "thead", "title", "tr",
    "ul",
}  # fmt: skip
ATTRIBUTES = {
    "aria-hidden", "aria-label", "aria-labelledby", "charset", "class", "content", "height", "href", "http-equiv",
    "id", "lang", "name", "open", "preserveaspectratio", "role", "scope", "tabindex", "viewbox", "width", "x",
    "x1", "x2", "y", "y1", "y2",
}  # fmt: skip
EVIL = "</pre></script><script>alert(1)</script><img src=http://evil/x onerror=a()>'\"<!--{{ 7*7 }}\u202e\x00\x1b[31m"


class Reader(HTMLParser):
    """Takes a page apart, and insists that every tag is known, closed, and harmless."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text, self.links, self.ids = [], [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS
        assert {key for key, _ in attrs} <= ATTRIBUTES
        self.tags.append((tag, dict(attrs), list(self.open)))
        self.links += [value for key, value in attrs if key == "href"]
        self.ids += [value for key, value in attrs if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data[:50]}")

    @property
    def all_text(self):
        return "".join(self.text)


@pytest.fixture(scope="module")
def page(full_dataset):
    return page_of(full_dataset)


def page_of(folder):
    return write_report(folder).read_text(encoding="utf-8")


def test_the_page_has_every_section_and_ten_rows_of_each_task(page):
    reader = Reader(page)
    for title in ("What to know first", "Sources", "Tasks and languages", "Lengths", "What was left out", "Redaction",
                  "Duplicates", "Split and leakage", "Examples", "Settings and files"):  # fmt: skip
        assert title in reader.all_text
    assert sum(tag == "article" for tag, _, _ in reader.tags) == 10 * len(Task)
    for fact in ("shop:src/kept.py", "time and clusters", "a function is equal in train", '"jaccard": 0.7'):
        assert fact in reader.all_text


def test_equal_datasets_give_equal_bytes_and_nothing_else_is_touched(make_dataset):
    folder = make_dataset()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before | {REPORT_NAME: first}


def test_the_policy_allows_the_style_of_the_page_and_nothing_else(page):
    style = re.search("<style>(.*)</style>", page, re.DOTALL).group(1)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" in page
    assert "url(" not in style
    assert "@import" not in style


def test_links_lead_to_places_on_the_page(page):
    reader = Reader(page)
    assert len(reader.ids) == len(set(reader.ids))
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)


def test_a_screen_reader_finds_its_way(page):
    reader = Reader(page)
    levels = [int(tag[1]) for tag, _, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs, _ in reader.tags if tag == "th")
    assert all("aria-hidden" in attrs or "aria-label" in attrs for tag, attrs, _ in reader.tags if tag == "svg")


def test_what_is_learned_is_marked_in_words_too(make_dataset, example_of):
    reader = Reader(page_of(make_dataset([example_of(0, Task.INFILL, text="gap = 5"), example_of(3, Task.QA)])))
    assert "before = 1\nlearned: gap = 5 end of what is learned \nafter = 2" in reader.all_text
    assert ("pre", {"tabindex": "0", "class": "learned"}) in [(tag, attrs) for tag, attrs, _ in reader.tags]


def test_nothing_from_a_repository_acts(make_dataset, example_of, dropped_of, source_of, segments_of):
    """Hostile text in every field that a repository has a hand in."""
    place = example_of(0).provenance[0].model_copy(update=dict.fromkeys(("repo", "path", "commit", "author"), EVIL))
    place = place.model_copy(update={"license": EVIL})
    names = {"language": EVIL, "stratum": EVIL, "cluster": EVIL, "visibility": EVIL, "provenance": (place, place)}
    rows = [
        example_of(number, task, text=EVIL, **names, segments=_everywhere(segments_of(task, EVIL)))
        for task in Task
        for number in range(4)
    ]
    lost = [dropped_of(1, EVIL, EVIL, repo=EVIL, path=EVIL, commit=EVIL, twin=EVIL)]
    sources = (source_of(EVIL, ref=EVIL, commit=EVIL, visibility=EVIL, note=EVIL, state="partial"),) * 2
    folder = make_dataset(rows, lost, sources=sources, builder=EVIL, settings=EVIL, settings_digest=EVIL)
    page = page_of(folder)
    reader = Reader(page)
    assert "<script" not in page
    assert {"\u202e", "\x00", "\x1b"}.isdisjoint(page)
    assert "alert(1)" in reader.all_text
    assert "{{ 7*7 }}[U+202E][U+0000][U+001B][31m" in reader.all_text


def _everywhere(segments):
    return tuple(segment.model_copy(update={"text": EVIL, "path": EVIL}) for segment in segments)


def test_rows_of_a_megabyte_and_many_of_everything_stay_under_three_megabytes(
    make_dataset, example_of, dropped_of, source_of
):
    texts = ["\u202ea" * 100_000, "<'\n" * 9000, "\u202e<\n" * 9000, ("&" * 400 + "\n") * 60]
    rows = []
    for task in Task:
        for number in range(12):
            text = texts[number % 4] if number or task is Task.PRETRAIN else texts[1]
            row = example_of(number, task, text=text)
            extra = tuple(Segment(role=Role.CONTEXT, text=text[:30_000], path=text[:5000]) for _ in range(5))
            places = tuple(row.provenance[0].model_copy(update={"path": text[:3000]}) for _ in range(30))
            rows.append(row.model_copy(update={"segments": extra[:2] + row.segments + extra, "provenance": places}))
    rows = [row if n % 3 else row.model_copy(update={"segments": row.segments[:3]}) for n, row in enumerate(rows)]
    lost = [dropped_of(n, f"stage{n % 90}", "\u202e<" * 200 + str(n % 90), path="'" * 900 + str(n)) for n in range(900)]
    sources = tuple(source_of(f"{n}" + "&" * 500, note="<" * 900, state="partial") for n in range(400))
    folder = make_dataset(rows, lost, sources=sources, settings=str(["<" * 900] * 900))
    assert write_report(folder).stat().st_size < 3_000_000
    Reader(page_of(folder))


def test_a_dataset_with_almost_nothing_has_a_page(make_dataset, example_of):
    """Schema version 1: no slices, no twins, no sources' states, one row; and no date and no file."""
    folder = make_dataset([example_of(0, provenance=())], [], schema_version=1, sources=(), redacted=())
    assert "No row is held out" in Reader(page_of(folder)).all_text


def test_an_empty_dataset_has_a_page(make_dataset):
    assert "0 rows" in Reader(page_of(make_dataset([], []))).all_text


@pytest.mark.parametrize("name", ["train-00000.parquet", DROPPED_NAME])
@pytest.mark.parametrize("content", [None, b"PAR1 no parquet PAR1"])
def test_a_missing_or_damaged_file_is_named(make_dataset, name, content):
    folder = make_dataset()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(DatasetError, match=name):
        write_report(folder)
    assert not (folder / REPORT_NAME).exists()


def test_progress_moves_on_for_each_shard(make_dataset):
    with Progress("Reporting", 2, stream=io.StringIO()) as progress:
        write_report(make_dataset(), progress=progress)
    assert progress.done == 2


def test_a_folder_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no dataset"):
        write_report(tmp_path / "nowhere")
