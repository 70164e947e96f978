"""How a family's models write tool calls: found by what the base's chat template makes of one, never by its name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.families.tokens import Tokenizer

OPENS, CLOSES = "<tool_call>", "</tool_call>"
PROBE_TOOL, PROBE_KEY, PROBE_VALUE = "probe_tool", "probe_key", "probe-value-6d1c"
PROBE_DESCRIPTION = "probe-description-6d1c"
# What a template may end in that was not written for tools at all: it is a program
FAILURES = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)


@dataclass(frozen=True)
class JsonCalls:
    """A call is {"name": NAME, "arguments": {...}} between two tags, each on a line of its own. words is for people."""

    opens: str = OPENS
    closes: str = CLOSES
    words: str = "as JSON between `<tool_call>` tags"

    def written(self, name: str, arguments: Mapping[str, object]) -> str:
        """A call as the chat template writes it."""
        return f'{self.opens}\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n{self.closes}'


@dataclass(frozen=True)
class TaggedCalls:
    """A call is <function=NAME>, a <parameter=KEY> with a value for each argument, and their ends, between two tags.

    Values are plain text where the tool's schema says that they are texts, else JSON. words is for people.
    """

    opens: str = OPENS
    closes: str = CLOSES
    words: str = "with a tag for each argument, between `<tool_call>` tags"

    def written(self, name: str, arguments: Mapping[str, object]) -> str:
        """A call as the chat template writes it."""
        values = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
        return f"{self.opens}\n<function={name}>\n{values}</function>\n{self.closes}"


CallForm = JsonCalls | TaggedCalls


def choose_call_form(
    forms: Sequence[CallForm], tokenizer: Tokenizer, *, template_kwargs: Mapping[str, bool]
) -> CallForm | None:
    """The form in which the chat template writes calls; None when it shows no tools, or writes calls otherwise."""
    from jinja2 import TemplateError

    function = {"name": PROBE_TOOL, "description": PROBE_DESCRIPTION, "parameters": {"type": "object"}}
    arguments = {PROBE_KEY: PROBE_VALUE}
    call = {"type": "function", "function": {"name": PROBE_TOOL, "arguments": arguments}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    if not forms or not tokenizer.chat_template:
        return None
    try:
        tools = [{"type": "function", "function": function}]
        rendered = str(tokenizer.apply_chat_template(messages, tokenize=False, tools=tools, **template_kwargs))
    except (TemplateError, *FAILURES):
        return None
    if PROBE_DESCRIPTION not in rendered:
        return None
    return next((form for form in forms if form.written(PROBE_TOOL, arguments) in rendered), None)
