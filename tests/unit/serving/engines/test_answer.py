"""An answer from logits to deltas, a byte a token: where calls are read, and where they are text."""

import json
from collections.abc import Sequence

import pytest
import torch

from finetune.families.calls import JsonCalls, TaggedCalls
from serving.engines.answer import AnswerWriter
from serving.engines.base import Delta, Sampling
from serving.engines.call_reader import make_reader
from serving.engines.calls import Tool, ToolUse

STOP = 256
TOOLS = (Tool("read", "", '{"type": "object", "properties": {"path": {"type": "string"}}}'),)
FORMS = [JsonCalls(), TaggedCalls()]


def decode(token_ids: Sequence[int]) -> str:
    return bytes(token for token in token_ids if token < STOP).decode(errors="replace")


def write(text: str, reader=None, *, max_new_tokens: int = 1000, stop: tuple[str, ...] = ()) -> list[Delta]:
    """The deltas of a model that is sure of each byte of text, and of its end."""
    writer = AnswerWriter(
        Sampling(temperature=0.0, stop=stop),
        stop_ids=frozenset([STOP]),
        max_new_tokens=max_new_tokens,
        decode=decode,
        device="cpu",
        reader=reader,
    )
    deltas: list[Delta] = []
    for token in [*text.encode(), STOP]:
        logits = torch.zeros(STOP + 1)
        logits[token] = 1.0
        deltas.append(writer.write(logits)[1])
        if deltas[-1].finish_reason:
            break
    return deltas


def parted(deltas: list[Delta]) -> tuple[str, list[tuple[int, str | None, str]], str | None]:
    calls = [(call.index, call.name, call.arguments) for delta in deltas for call in delta.calls]
    return "".join(delta.text for delta in deltas), calls, deltas[-1].finish_reason


@pytest.mark.parametrize("form", FORMS)
def test_a_call_that_may_come_is_read_at_its_end(form):
    call = form.written("read", {"path": "é"})
    deltas = write(f"So 😀.\n{call}\n{call}", make_reader(form, ToolUse(TOOLS)))
    text, calls, reason = parted(deltas)
    assert text == "So 😀." and reason == "tool_calls"
    assert [(index, name) for index, name, _ in calls] == [(0, "read"), (0, None), (1, "read"), (1, None)]
    assert json.loads(calls[1][2]) == json.loads(calls[3][2]) == {"path": "é"}
    assert sum(bool(delta.calls) for delta in deltas) == 2 and sum(delta.num_tokens for delta in deltas) == len(deltas)


@pytest.mark.parametrize("form", FORMS)
def test_without_tools_a_call_is_text(form):
    call = form.written("read", {"path": "a"})
    assert parted(write(call)) == (call, [], "stop")


@pytest.mark.parametrize("form", FORMS)
def test_a_call_that_is_cut_off_is_text(form):
    call = form.written("read", {"path": "a"})
    deltas = write(call, make_reader(form, ToolUse(TOOLS)), max_new_tokens=len(call) // 2)
    assert parted(deltas) == (call[: len(call) // 2], [], "length")
    assert sum(delta.num_malformed_calls for delta in deltas) == 1


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_of_one_call_ends_behind_it(form):
    call = form.written("read", {"path": "a"})
    deltas = write(f"{call}\n{call}", make_reader(form, ToolUse(TOOLS, parallel=False)))
    assert len(deltas) == len(call) and parted(deltas)[2] == "tool_calls"


def test_a_stop_text_ends_an_answer_before_a_call():
    form = FORMS[0]
    call = form.written("read", {"path": "a"})
    assert parted(write(f"So END {call}", make_reader(form, ToolUse(TOOLS)), stop=("END",))) == ("So ", [], "stop")
