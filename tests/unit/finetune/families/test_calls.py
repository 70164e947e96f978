"""Which form of tool calls a chat template has: the published templates that trl brings, and some that have none."""

import importlib.util
from pathlib import Path

import pytest

from finetune.families.calls import JsonCalls, TaggedCalls, choose_call_form
from finetune.families.qwen2 import QWEN2
from finetune.families.qwen3 import QWEN3
from finetune.families.qwen3_5 import QWEN3_5
from finetune.families.qwen3_moe import QWEN3_MOE
from finetune.model.loading import load_tokenizer

TRL = importlib.util.find_spec("trl")
assert TRL and TRL.origin
TEMPLATES = Path(TRL.origin).parent / "chat_templates"


@pytest.fixture
def form_of(tiny_base):
    tokenizer = load_tokenizer(tiny_base)

    def find(family, template: str | None):
        tokenizer.chat_template = template
        return choose_call_form(family.call_forms, tokenizer, template_kwargs=family.chat_template_kwargs)

    return find


@pytest.mark.parametrize(
    ("family", "name", "form"),
    [
        (QWEN3, "qwen3", JsonCalls()),
        (QWEN3, "qwen3_instruct_2507", JsonCalls()),
        (QWEN2, "qwen2_5", JsonCalls()),
        (QWEN3_MOE, "qwen3", JsonCalls()),
        (QWEN3_MOE, "qwen3_6", TaggedCalls()),
        (QWEN3_5, "qwen3_5_nothink", TaggedCalls()),
        (QWEN3_5, "qwen3_6", TaggedCalls()),
        (QWEN3_5, "qwen3_8", TaggedCalls()),
        # a form that the family is not known to have
        (QWEN3, "qwen3_6", None),
        (QWEN3_5, "gemma3", None),
    ],
)
def test_a_published_template_shows_its_form(form_of, family, name, form):
    assert form_of(family, (TEMPLATES / f"{name}.jinja").read_text()) == form


CALLS_ALONE = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function }}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "template", [None, "{{ messages }}", CALLS_ALONE, "{{ raise_exception('no') }}", "{{ 1 + 'a' }}", "{{ 1 / 0 }}"]
)
def test_a_template_without_tools_has_no_form(form_of, template):
    assert form_of(QWEN3, template) is None
