"""Special tokens are chosen by name from the tokenizer, and held against chat templates as they were published."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.dataset import Example, Role, Task
from finetune.contracts.errors import BaseModelError
from finetune.families.base import Family
from finetune.families.gemma import CODEGEMMA_TOKENS, GEMMA_TOKENS
from finetune.families.llama import DEEPSEEK_CODER, LLAMA2, LLAMA3
from finetune.families.qwen2 import QWEN2
from finetune.families.qwen_tokens import QWEN2_TOKENS
from finetune.families.registry import family_for
from finetune.families.tokens import TokenForm
from finetune.render.chat import ChatPrompt
from finetune.render.rows import Renderer

# Published templates come with trl; the package itself is not imported for them.
PUBLISHED = [
    ("qwen3_5", "qwen3_5_think"),
    ("qwen3_5", "qwen3_5_nothink"),
    ("qwen3_5", "qwen3_6"),
    ("qwen3_5", "qwen3_8"),
    ("qwen3_5_moe", "qwen3_6"),
    ("qwen3", "qwen3"),
    ("qwen3", "qwen3_instruct_2507"),
    ("qwen3_moe", "qwen3_instruct_2507"),
    ("qwen2", "qwen2_5"),
    ("llama", "llama3"),
    ("llama", "llama3_1"),
    ("llama", "llama3_2"),
    ("gemma", "gemma"),
    ("gemma3_text", "gemma3"),
]


def tokenizer_of(form: TokenForm, *, template: str | None = None, more: Sequence[str] = ()) -> Any:
    """A byte tokenizer with a form's tokens and a chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*form.names(), *more)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=form.document_end, bos_token=form.document_start
    )
    tokenizer.chat_template = template
    return tokenizer


def published(name: str) -> str:
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.submodule_search_locations
    return (Path(spec.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def resolved(model_type: str, form: TokenForm, template: str | None = None) -> Family:
    return family_for(model_type).for_tokenizer(tokenizer_of(form, template=template))


@pytest.mark.parametrize(("model_type", "template"), PUBLISHED, ids=[" ".join(pair) for pair in PUBLISHED])
def test_a_published_template_ends_its_turns_as_the_family_says(model_type: str, template: str) -> None:
    family = family_for(model_type)
    tokenizer = tokenizer_of(family.tokens, template=published(template))
    found = family.for_tokenizer(tokenizer)
    assert found.turn_end == family.turn_end
    prompt = tokenizer.decode(ChatPrompt(tokenizer, found).token_ids("def f(): pass"))
    assert prompt.count("def f(): pass") == 1
    for token in (found.tokens.document_start, found.tokens.turn_start):
        assert token is None or prompt.count(token) >= 1
    assert prompt.count("<think>") == prompt.count("</think>")


def test_a_template_that_always_opens_reasoning_is_refused_for_chat_rows() -> None:
    family = family_for("deepseek_v3")
    tokenizer = tokenizer_of(family.tokens, template=published("deepseekv3"))
    with pytest.raises(BaseModelError, match="opens each answer with <think>"):
        ChatPrompt(tokenizer, family.for_tokenizer(tokenizer))


def test_the_turn_start_is_what_published_templates_open_a_turn_with() -> None:
    assert f"{LLAMA3.turn_start}" in published("llama3")
    assert f"{GEMMA_TOKENS.turn_start}" in published("gemma")


@pytest.mark.parametrize("form", [LLAMA3, LLAMA2, DEEPSEEK_CODER], ids=lambda form: form.name)
def test_llama_is_told_apart_by_its_tokenizers(form: TokenForm) -> None:
    assert resolved("llama", form).tokens == form


@pytest.mark.parametrize("form", [GEMMA_TOKENS, CODEGEMMA_TOKENS], ids=lambda form: form.name)
def test_gemma_fills_in_only_with_codegemmas_tokenizer(form: TokenForm) -> None:
    found = resolved("gemma", form)
    assert found.tokens == form
    assert (found.sentinels is not None) == (form is CODEGEMMA_TOKENS)


def test_qwen2_without_infill_tokens_says_so() -> None:
    found = resolved("qwen2", QWEN2_TOKENS)
    with pytest.raises(BaseModelError, match=r"Qwen2\.5 and later have"):
        found.infill_pieces("a", "b")
    assert QWEN2.sentinels is not None


def test_a_tokenizer_without_the_special_tokens_is_refused() -> None:
    with pytest.raises(BaseModelError, match=r"lacks <\|im_end\|>, which the family qwen2"):
        family_for("qwen2").for_tokenizer(tokenizer_of(LLAMA2, more=["<|endoftext|>", "<|im_start|>"]))


def test_a_template_that_ends_its_turns_otherwise_is_refused() -> None:
    with pytest.raises(BaseModelError, match=r"ends an answer with '<\|im_end\|>"):
        resolved("llama", LLAMA3, published("qwen2_5"))


def test_the_template_decides_where_a_tokenizer_fits_two_forms() -> None:
    tokenizer = tokenizer_of(LLAMA3, more=LLAMA2.names(), template="{{ messages[-1].content }}</s>")
    assert family_for("llama").for_tokenizer(tokenizer).tokens == LLAMA2


def test_raw_rows_begin_with_the_start_token_and_end_with_the_end_token(make_example: Callable[..., Example]) -> None:
    tokenizer = tokenizer_of(CODEGEMMA_TOKENS, template=published("gemma"))
    renderer = Renderer(tokenizer, family_for("gemma").for_tokenizer(tokenizer), 200)
    parts = [(Role.PREFIX, "a"), (Role.SUFFIX, "b"), (Role.TARGET, "c")]
    rows = [
        renderer.row(make_example(Task.PRETRAIN, [(Role.TARGET, "x = 1")])),
        renderer.row(make_example(Task.INFILL, parts)),
    ]
    for row in rows:
        assert row is not None
        assert tokenizer.convert_ids_to_tokens([row.input_ids[0], row.input_ids[-1]]) == ["<bos>", "<eos>"]
        assert row.labels[0] == -100
        assert row.input_ids.count(row.input_ids[0]) == 1
