"""Part an answer, while it is written, into text and tool calls. How its text is cut into steps changes nothing."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from finetune.families.calls import CallForm, JsonCalls
from serving.engines.call_text import Unread, dumps, parameter_kinds, parameter_value, read_call
from serving.engines.calls import CallDelta, Tool, ToolCall, ToolUse
from serving.engines.stream import overlap


@dataclass
class Parted:
    """What some text brought: more text, more of the calls, and how many calls were begun that are none."""

    text: str = ""
    calls: list[CallDelta] = field(default_factory=list)
    num_malformed: int = 0


class CallReader(Protocol):
    """Takes an answer's text as it comes."""

    @property
    def num_calls(self) -> int: ...

    @property
    def satisfied(self) -> bool:
        """Whether the answer holds all the calls that it may."""
        ...

    def push(self, text: str) -> Parted: ...

    def finish(self) -> Parted: ...


def make_reader(form: CallForm, use: ToolUse) -> CallReader:
    """The reader of an answer that must call, which a grammar holds to the form, or of one that may."""
    if not use.must_call:
        return HeldCalls(form, use)
    return RunningJsonCalls(form) if isinstance(form, JsonCalls) else RunningTaggedCalls(form, use.tools)


class _Reader(ABC):
    """Holds text back and takes parts off its front, as long as there are any."""

    _held = ""

    def push(self, text: str) -> Parted:
        """What text completes or brings."""
        self._held += text
        parted = Parted()
        while self._advance(parted):
            pass
        return parted

    @abstractmethod
    def _advance(self, parted: Parted) -> bool:
        """Take the next part out of what is held; whether there may be more."""


class HeldCalls(_Reader):
    """Calls among text that nothing holds to a form: each is held back until it is whole. What is no call is text.

    White space beside a call belongs to the call.
    """

    def __init__(self, form: CallForm, use: ToolUse) -> None:
        self.num_calls = 0
        self._form = form
        self._use = use
        self._held = ""
        # of _held, while a call is read: where it begins behind white space, and from where its end is looked for
        self._opened: int | None = None
        self._searched = 0
        self._behind_call = False

    @property
    def satisfied(self) -> bool:
        return self.num_calls > 0 and not self._use.parallel

    def finish(self) -> Parted:
        """What was held back, at the end of the answer."""
        parted = Parted()
        if self._opened is not None:
            self._close(self._held, "", parted, final=True)
        elif not (self._behind_call and self._held.isspace()):
            parted.text = self._held
        self._held = ""
        return parted

    def _advance(self, parted: Parted) -> bool:
        """Take the next text or call out of what is held; whether there may be more."""
        if self.satisfied:
            self._held = ""
            return False
        if self._opened is None:
            return self._open(parted)
        end = self._held.find(self._form.closes, self._searched)
        if end < 0:
            self._searched = max(self._searched, len(self._held) - len(self._form.closes) + 1)
            return False
        after = end + len(self._form.closes)
        self._searched = after
        return self._close(self._held[:after], self._held[after:], parted)

    def _open(self, parted: Parted) -> bool:
        begin = self._held.find(self._form.opens)
        sure = begin if begin >= 0 else len(self._held) - overlap(self._held, self._form.opens)
        cut = len(self._held[:sure].rstrip())
        parted.text += self._text(self._held[:cut])
        self._held = self._held[cut:]
        if begin < 0:
            return False
        self._opened = begin - cut
        self._searched = self._opened + len(self._form.opens)
        return True

    def _close(self, whole: str, rest: str, parted: Parted, *, final: bool = False) -> bool:
        """Take whole, which ends with a closing tag or with the answer; whether it was taken."""
        assert self._opened is not None
        body = whole[self._opened + len(self._form.opens) :].removesuffix(self._form.closes)
        call = read_call(body, self._form, self._use.tools)
        if call is Unread.INCOMPLETE and not final:
            return True
        if isinstance(call, ToolCall):
            index = self.num_calls
            self.num_calls += 1
            parted.calls += [CallDelta(index, call.name), CallDelta(index, arguments=call.arguments)]
            self._behind_call = True
        else:
            parted.text += self._text(whole)
            parted.num_malformed += 1
        self._held, self._opened = rest, None
        return True

    def _text(self, text: str) -> str:
        if self._behind_call:
            text = text.lstrip()
            self._behind_call = not text
        return text


class RunningJsonCalls(_Reader):
    """Calls that a grammar holds to the form, as JSON: arguments go out as they are written."""

    satisfied = False

    def __init__(self, form: CallForm) -> None:
        self.num_calls = 0
        self._head = re.compile(rf'\s*{re.escape(form.opens)}\n{{"name": "([^"]+)", "arguments": ')
        self._end = f"}}\n{form.closes}"
        self._held = ""
        self._inside = False

    def finish(self) -> Parted:
        """What was held back; the arguments of an answer that was cut off end in the middle."""
        arguments, self._held = self._held if self._inside else "", ""
        return Parted(calls=[CallDelta(self.num_calls - 1, arguments=arguments)] if arguments else [])

    def _advance(self, parted: Parted) -> bool:
        if not self._inside:
            head = self._head.match(self._held)
            if head is None:
                return False
            parted.calls.append(CallDelta(self.num_calls, head[1]))
            self.num_calls += 1
            self._held, self._inside = self._held[head.end() :], True
            return True
        end = self._held.find(self._end)
        sure = end if end >= 0 else len(self._held) - overlap(self._held, self._end)
        if sure > 0:
            parted.calls.append(CallDelta(self.num_calls - 1, arguments=self._held[:sure]))
        self._held = self._held[sure:]
        if end < 0:
            return False
        self._held, self._inside = self._held[len(self._end) :], False
        return True


class RunningTaggedCalls(_Reader):
    """Calls that a grammar holds to the form, with a tag for each argument: texts go out as they are written."""

    satisfied = False

    def __init__(self, form: CallForm, tools: Sequence[Tool]) -> None:
        self.num_calls = 0
        self._tools = {tool.name: tool for tool in tools}
        self._head = re.compile(rf"\s*{re.escape(form.opens)}\n<function=([^>]+)>\n")
        self._key = re.compile(r"<parameter=([^>]+)>\n")
        self._value_end = "\n</parameter>\n"
        self._call_end = f"</function>\n{form.closes}"
        self._held = ""
        self._name: str | None = None
        self._kinds: frozenset[str] | None = None
        self._num_arguments = 0

    def finish(self) -> Parted:
        """What was held back; the arguments of an answer that was cut off end in the middle."""
        parted = Parted()
        if self._kinds is not None and self._kinds == {"string"}:
            self._add(parted, _escaped(self._held))
        self._held = ""
        return parted

    def _advance(self, parted: Parted) -> bool:
        if self._name is None:
            return self._open(parted)
        if self._kinds is not None:
            return self._go_on(parted)
        if key := self._key.match(self._held):
            self._kinds = parameter_kinds(self._tools[self._name], key[1])
            quote = '"' if self._kinds == {"string"} else ""
            self._add(parted, f"{', ' if self._num_arguments else ''}{dumps(key[1])}: {quote}")
            self._num_arguments += 1
            self._held = self._held[key.end() :]
            return True
        if self._held.startswith(self._call_end):
            self._add(parted, "}")
            self._held, self._name = self._held[len(self._call_end) :], None
            return True
        return False

    def _open(self, parted: Parted) -> bool:
        head = self._head.match(self._held)
        if head is None:
            return False
        self._name, self._num_arguments = head[1], 0
        parted.calls += [CallDelta(self.num_calls, self._name), CallDelta(self.num_calls, arguments="{")]
        self.num_calls += 1
        self._held = self._held[head.end() :]
        return True

    def _go_on(self, parted: Parted) -> bool:
        """Take more of the value that is being written."""
        assert self._kinds is not None
        end = self._held.find(self._value_end)
        if self._kinds == {"string"}:
            sure = end if end >= 0 else len(self._held) - overlap(self._held, self._value_end)
            self._add(parted, _escaped(self._held[:sure]))
            self._held = self._held[sure:]
            end = min(end, 0)
        if end < 0:
            return False
        self._add(parted, '"' if self._kinds == {"string"} else dumps(parameter_value(self._held[:end], self._kinds)))
        self._held, self._kinds = self._held[end + len(self._value_end) :], None
        return True

    def _add(self, parted: Parted, arguments: str) -> None:
        if arguments:
            parted.calls.append(CallDelta(self.num_calls - 1, arguments=arguments))


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
