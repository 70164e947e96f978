"""Chat prompts as token ids: the template's own words may be special tokens, the user's never are."""

from typing import Any

from finetune.contracts.dataset import Example, Role
from finetune.contracts.errors import BaseModelError
from finetune.families.base import Family, Piece, encode_pieces

# Stands for the user's text while the template is rendered, so that the two can be told apart and encoded differently.
MARKER = "user-text-4be1c7d2"
OPENS_REASONING, CLOSES_REASONING = "<think>", "</think>"
RAW_TASKS_ONLY = "Set data.tasks to 0 for all but infill, repo_infill and pretrain"


class ChatPrompt:
    """One user turn and the header of the answer, as the family's chat template has it.

    Raises BaseModelError when the tokenizer has no chat template, one that does not show the user's text once, or one
    that opens a reasoning block which the answers of the rows would never close.
    """

    def __init__(self, tokenizer: Any, family: Family) -> None:
        if not tokenizer.chat_template:
            raise BaseModelError(
                "The base model's tokenizer has no chat template.",
                f"{RAW_TASKS_ONLY}, or take the base's own tokenizer.",
            )
        self._tokenizer = tokenizer
        self._kwargs = dict(family.chat_template_kwargs)
        before, after = self._around(MARKER)
        if after.count(OPENS_REASONING) > after.count(CLOSES_REASONING):
            raise BaseModelError(
                f"The chat template of this base opens each answer with {OPENS_REASONING}; rows hold none of that.",
                f"{RAW_TASKS_ONLY}, or take a base whose template answers directly.",
            )
        self._trims = self._around(f"\n {MARKER} \n") == (before, after)
        self._before: list[int] = tokenizer.encode(before, add_special_tokens=False)
        self._after: list[int] = tokenizer.encode(after, add_special_tokens=False)

    def token_ids(self, content: str) -> list[int]:
        """The prompt for content, up to and with the header after which the answer begins."""
        text = content.strip() if self._trims else content
        return [*self._before, *encode_pieces(self._tokenizer, [Piece(text)]), *self._after]

    def _around(self, content: str) -> tuple[str, str]:
        rendered = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, **self._kwargs
        )
        parts = rendered.split(MARKER)
        if len(parts) != 2:
            raise BaseModelError(
                f"The chat template shows the user's text {len(parts) - 1} times; it must be once.",
                "Take the tokenizer that was published with this base model.",
            )
        return parts[0], parts[1]


def chat_content(example: Example) -> str:
    """What the user says in a row with an answer: the instruction, then each file of the context under its path."""
    parts = [part.text for part in example.segments if part.role is Role.INSTRUCTION]
    for part in example.segments:
        if part.role is Role.CONTEXT:
            parts.append(f"{part.path or ''}\n```\n{part.text}\n```")
    return "\n\n".join(parts)
