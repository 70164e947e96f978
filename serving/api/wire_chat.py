"""The body of POST /v1/chat/completions, as OpenAI spells it."""

import uuid
from typing import Annotated, Any, Literal

from pydantic import Field

from serving.api.wire import MAX_TOP_LOG_PROBS, GenerationFields, MaxTokens, Nothing, Received, Text
from serving.api.wire_tools import MAX_CALLS, MAX_TOOLS, FunctionTool, MessageCall, ResponseFormat, ToolChoice
from serving.engines.base import ChatTurn
from serving.errors import RequestError


class TextPart(Received):
    """A part of a message's content; images and sound are not served."""

    type: Literal["text"]
    text: Text


class Message(Received):
    """developer is another name for system. tool_calls are an assistant's; tool_call_id is the one that a tool answers.

    What clients send back of an answer that says nothing is taken: refusal, annotations, audio, function_call.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None
    name: Text | None = None
    tool_calls: Annotated[list[MessageCall], Field(max_length=MAX_CALLS)] | None = None
    tool_call_id: Text | None = None
    refusal: Literal[""] | None = None
    annotations: Nothing | None = None
    audio: None = None
    function_call: None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if self.content is None:
            return ""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(GenerationFields):
    """POST /v1/chat/completions. max_completion_tokens wins over its old name max_tokens."""

    messages: list[Message] = Field(min_length=1, max_length=256)
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOG_PROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None


def turns_of(messages: list[Message]) -> tuple[ChatTurn, ...]:
    """The engine's terms, answers of tools in the order of the calls. Raises RequestError for what does not fit."""
    turns: list[ChatTurn] = []
    calls: list[str] = []
    answers: dict[str, ChatTurn] = {}
    for index, message in enumerate(messages):
        place = f"messages.{index}"
        turn = _turn(message, place)
        if turn.role == "tool":
            assert message.tool_call_id is not None
            if message.tool_call_id not in calls or message.tool_call_id in answers:
                raise RequestError(
                    "A tool's message answers one call of the assistant's message before it.",
                    "Give it the id of a call that has no answer yet.",
                    param=f"{place}.tool_call_id",
                )
            answers[message.tool_call_id] = turn
            continue
        turns += _in_order(calls, answers)
        calls, answers = [call.id for call in message.tool_calls or ()], {}
        turns.append(turn)
    return (*turns, *_in_order(calls, answers))


def _in_order(calls: list[str], answers: dict[str, ChatTurn]) -> list[ChatTurn]:
    # templates tell by the order which call a text answers
    return [answers[call] for call in calls if call in answers]


def _turn(message: Message, place: str) -> ChatTurn:
    if message.content is None and not message.tool_calls:
        raise RequestError("The message has no content.", param=f"{place}.content")
    if message.tool_calls and message.role != "assistant":
        raise RequestError("Only the assistant calls tools.", param=f"{place}.tool_calls")
    if (message.role == "tool") != (message.tool_call_id is not None):
        raise RequestError("A tool's message, and no other, names a call.", param=f"{place}.tool_call_id")
    calls = tuple(call.call(f"{place}.tool_calls.{number}") for number, call in enumerate(message.tool_calls or ()))
    role = "system" if message.role == "developer" else message.role
    return ChatTurn(role, message.text, calls)


def call_body(name: str | None, arguments: str) -> dict[str, Any]:
    """A call, or the first piece of one; name None: a later piece, which has no id either."""
    if name is None:
        return {"function": {"arguments": arguments}}
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function}
