"""Decoding token by token and cutting at stop texts give what decoding the whole would."""

import random

import pytest

from serving.engines.stream import StopTexts, StreamDecoder


def decode(ids) -> str:
    """One token a byte."""
    return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize("text", ["plain", "naïve — ü 漢字 🙂🙂", "", "a\ufeffb"])
def test_characters_come_whole(text):
    decoder = StreamDecoder(decode)
    pieces = [decoder.push(byte) for byte in text.encode()]
    assert "".join(pieces) + decoder.flush() == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_bytes_that_are_no_text_do_not_hold_it_up():
    decoder = StreamDecoder(decode)
    pieces = [decoder.push(byte) for byte in [0x80, 0x81, 0x82, 0xC3, 0xA9, *b"ok"]]
    text = "".join(pieces) + decoder.flush()
    assert text.endswith("ok") and text.count("ok") == 1 and len(text) <= 7


def test_random_bytes_are_never_sent_twice():
    chooser = random.Random(0)
    for _ in range(300):
        content = bytes(chooser.choice([0x41, 0x80, 0xC3, 0xA9, 0xE6, 0xBC, 0xA2, 0xF0]) for _ in range(20))
        decoder = StreamDecoder(decode)
        text = "".join(decoder.push(byte) for byte in content) + decoder.flush()
        assert text.count("A") == content.count(0x41)


def test_what_is_left_is_flushed():
    decoder = StreamDecoder(decode)
    assert decoder.push(0xC3) == "" and decoder.flush() == "\ufffd" and decoder.flush() == ""


@pytest.mark.parametrize(
    ("stops", "pieces", "expected", "met"),
    [
        (["END"], ["abEN", "Dxy"], "ab", True),
        (["END"], ["abEN", "xy"], "abENxy", False),
        (["END"], ["E", "N"], "EN", False),
        (["b", "ab"], ["xab"], "x", True),
        (["aab"], ["aaab"], "a", True),
        (["aab"], list("aaaab"), "aa", True),
        ([], ["abc"], "abc", False),
        (["\n\n"], ["a\n", "b\n", "\nc"], "a\nb", True),
    ],
)
def test_the_text_ends_before_a_stop(stops, pieces, expected, met):
    cutter, text, found = StopTexts(stops), "", False
    for piece in pieces:
        ready, found = cutter.push(piece)
        text += ready
        if found:
            break
    if not found:
        text += cutter.flush()
    assert (text, found) == (expected, met)
