"""What an answer is held to and how calls are read out of it, for one base."""

from dataclasses import dataclass
from typing import Any

from finetune.families.base import Family
from finetune.families.calls import choose_call_form
from serving.engines.base import ChatPrompt, GenerationRequest
from serving.engines.call_reader import CallReader, make_reader
from serving.engines.constraint import Grammars, TokenConstraint
from serving.engines.grammar import answer_grammar
from serving.errors import RequestError


@dataclass(frozen=True)
class AnswerForm:
    """constraint None: any token may come. reader None: no text is a call."""

    constraint: TokenConstraint | None = None
    reader: CallReader | None = None


class AnswerForms:
    """Finds the form of each answer. A request without tools and schema costs nothing."""

    def __init__(self, tokenizer: Any, family: Family) -> None:
        self._calls = choose_call_form(family.call_forms, tokenizer, template_kwargs=family.chat_template_kwargs)
        stops = tokenizer.convert_tokens_to_ids(list(family.facts().chat_stops))
        self._grammars = Grammars(tokenizer, frozenset(stops))

    def find(self, request: GenerationRequest) -> AnswerForm:
        """The form of one answer. It may take as long as its schema is large. Raises RequestError for one that is not
        supported, and for tools and calls that the base's chat template does not show."""
        prompt = request.prompt if isinstance(request.prompt, ChatPrompt) else ChatPrompt(())
        use, calls = prompt.use, self._calls
        if calls is None:
            self._refuse(prompt)
        grammar = answer_grammar(request.schema, use, form=calls, is_token=self._grammars.is_token)
        return AnswerForm(
            self._grammars.constraint(grammar, param="response_format" if request.schema else "tools")
            if grammar
            else None,
            make_reader(calls, use) if calls and use else None,
        )

    def close(self) -> None:
        """End the threads; calling it again does nothing."""
        self._grammars.close()

    def _refuse(self, prompt: ChatPrompt) -> None:
        """Raise RequestError where a base without a known form of calls would need one."""
        if prompt.use is not None:
            raise RequestError(
                "This base has no tool calls: its chat template shows no tools, or writes calls in a form that is not "
                "known here.",
                "Leave tools out, or serve a base whose template has them, such as Qwen3.",
                param="tools",
            )
        if any(turn.calls or turn.role == "tool" for turn in prompt.turns):
            raise RequestError(
                "This base has no tool calls, so the conversation cannot hold any.",
                "Leave tool_calls and messages of the role tool out.",
                param="messages",
            )
