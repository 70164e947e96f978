import html

import pytest

from finetune.pages.text import LINE_CHARS, NAME_CHARS, excerpt, harmless, name


def test_markup_is_escaped():
    assert harmless("</script><img src=x onerror=\"a('&')\">") == (
        "&lt;/script&gt;&lt;img src=x onerror=&#34;a(&#39;&amp;&#39;)&#34;&gt;"
    )


@pytest.mark.parametrize(
    "sign",
    [
        "\u202e", "\u2066", "\u200f", "\u061c", "\u200b", "\ufeff", "\u00ad", "\x00", "\x1b", "\x7f", "\x85",
        "\u2028", "\u2029", "\u00a0", "\u3000", "\u3164", "\uffa0", "\u2800", "\ue000", "\U000e0041", "\ufffe",
        "\ud800",
    ],
)  # fmt: skip
def test_characters_that_hide_or_reorder_are_shown_by_their_code_point(sign):
    assert harmless(f"a{sign}b") == f'a<span class="odd">[U+{ord(sign):04X}]</span>b'


def test_letters_of_other_scripts_stay():
    text = "größe שלום 数値 é e\u0301 😀\tx\n"
    assert html.unescape(harmless(text)) == text


def test_marks_that_pile_up_are_cut_off():
    assert harmless("a" + "\u0301" * 60).endswith('<span class="odd">' + "[U+0301]" * 12 + "[45 more]</span>")


def test_windows_line_ends_are_named_shortly():
    assert harmless("a\r\n") == 'a<span class="odd">[CR]</span>\n'


def test_long_names_lose_their_middle():
    shown = name("a" * 1000 + "z")
    assert len(shown) < NAME_CHARS + 50
    assert shown.startswith("aaa")
    assert shown.endswith("aaz")


def test_an_excerpt_shows_the_beginning_and_counts_the_rest():
    shown = excerpt("\n".join("abcdef"), max_lines=2, max_chars=100)
    assert (shown.html, shown.hidden_lines) == ("a\nb", 4)


def test_an_excerpt_of_the_end_keeps_what_touches_the_gap():
    shown = excerpt("first\n" + "x" * 1000 + "tail", max_lines=1, max_chars=100, end=True)
    assert shown.html.endswith("x" * (LINE_CHARS - 4) + "tail")
    assert shown.html.startswith('<span class="cut">… 764 characters …</span>')
    assert shown.hidden_lines == 1


def test_a_megabyte_in_one_line_and_a_million_lines_stay_small():
    assert len(excerpt("<" * 1_000_000, max_lines=40, max_chars=4000).html) < 2000
    many = excerpt("\u202e\n" * 100_000, max_lines=100_000, max_chars=4000)
    assert len(many.html) <= 4000
    assert many.hidden_lines > 99_000
