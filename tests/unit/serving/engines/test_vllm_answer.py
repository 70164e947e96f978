"""Tokens of another server become the texts that this project's own engine would send."""

from serving.engines.base import Sampling, TokenScore
from serving.engines.vllm_answer import UpstreamWriter
from serving.engines.vllm_wire import TokenLogProbs, UpstreamStep


def writer(*stops):
    def decode(ids):
        return bytes(ids).decode("utf-8", errors="replace")

    return UpstreamWriter(Sampling(stop=stops), stop_ids=frozenset({0}), decode=decode)


def test_a_character_is_held_back_until_it_is_whole():
    one, euro = writer(), "€".encode()
    assert [one.write(UpstreamStep((byte,))).text for byte in euro] == ["", "", "€"]
    assert one.begun


def test_a_stop_token_ends_the_answer_and_counts():
    delta = writer().write(UpstreamStep((97, 0, 98)))
    assert (delta.text, delta.num_tokens, delta.finish_reason) == ("a", 2, "stop")


def test_a_stop_text_ends_it_before_the_text_even_over_several_steps():
    one = writer("bc")
    assert one.write(UpstreamStep((97, 98))).text == "a"
    delta = one.write(UpstreamStep((99, 100)))
    assert (delta.text, delta.num_tokens, delta.finish_reason) == ("", 1, "stop")


def test_what_was_held_back_comes_with_the_end():
    one = writer("bc")
    one.write(UpstreamStep((97, 98)))
    last = one.write(UpstreamStep((), finish="length"))
    assert (last.text, last.num_tokens, last.finish_reason) == ("b", 0, "length")


def test_nothing_has_begun_before_a_token():
    one = writer()
    one.write(UpstreamStep(()))
    assert not one.begun


def test_scores_are_of_the_tokens_that_were_sent():
    found = TokenLogProbs(-0.5, ((97, -0.5), (98, -2.0)))
    delta = writer().write(UpstreamStep((97, 0), (found, TokenLogProbs(-0.1, ()))))
    assert delta.scores == (TokenScore("a", -0.5, (("a", -0.5), ("b", -2.0))),)
