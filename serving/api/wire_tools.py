"""Tools, JSON schemas and the choice between them, as a chat request spells them."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from serving.api.wire import Received, Text
from serving.engines.calls import Tool, ToolCall, ToolUse
from serving.errors import RequestError

MAX_TOOLS = 128
MAX_SCHEMA_BYTES = 1 << 16
MAX_SCHEMA_DEPTH = 32
MAX_CALLS = 128
ANY_OBJECT = '{"type": "object"}'
NO_PARAMETERS = '{"type": "object", "properties": {}, "additionalProperties": false}'


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    if _depth(schema) > MAX_SCHEMA_DEPTH:
        raise ValueError(f"the schema is nested deeper than {MAX_SCHEMA_DEPTH}")
    try:
        size = len(json.dumps(schema, ensure_ascii=False, allow_nan=False).encode())
    except UnicodeEncodeError as error:
        raise ValueError("the schema holds half of a surrogate pair") from error
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"the schema has {size} bytes; at most {MAX_SCHEMA_BYTES} are taken")
    return schema


def _depth(schema: object) -> int:
    depth, level = 0, [schema]
    while level:
        depth += 1
        inner = [list(one.values()) if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))]
        level = [value for values in inner for value in values]
    return depth


Schema = Annotated[dict[str, Any], AfterValidator(_bounded)]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class JsonSchema(Received):
    """strict is taken and not used: an answer always satisfies the schema."""

    name: FunctionName
    description: Text | None = None
    # `schema` is a method of pydantic's own
    document: Schema | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextFormat(Received):
    """Any text."""

    type: Literal["text"] = "text"

    @property
    def text(self) -> str | None:
        """The schema as JSON text; None: none."""
        return None


class JsonFormat(Received):
    """Any JSON object."""

    type: Literal["json_object"]

    @property
    def text(self) -> str | None:
        """The schema as JSON text."""
        return ANY_OBJECT


class SchemaFormat(Received):
    """JSON by a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema

    @property
    def text(self) -> str | None:
        """The schema as JSON text."""
        return ANY_OBJECT if self.json_schema.document is None else json.dumps(self.json_schema.document)


ResponseFormat = Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")]


class Function(Received):
    """parameters None: it takes none. strict: the arguments of each call satisfy them."""

    name: FunctionName
    description: Text | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class FunctionTool(Received):
    """The one kind of tool that is served."""

    type: Literal["function"]
    function: Function

    @property
    def tool(self) -> Tool:
        """The engine's terms."""
        given = self.function
        parameters = NO_PARAMETERS if given.parameters is None else json.dumps(given.parameters, ensure_ascii=False)
        return Tool(given.name, given.description or "", parameters, strict=bool(given.strict))


class ChosenFunction(Received):
    """The name of the function that must be called."""

    name: FunctionName


class ChosenTool(Received):
    """The tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


ToolChoice = Literal["none", "auto", "required"] | ChosenTool


class CalledFunction(Received):
    """arguments is a JSON object as text."""

    name: FunctionName
    arguments: Text


class MessageCall(Received):
    """A call in an assistant's message of the conversation so far."""

    id: Annotated[Text, Field(min_length=1, max_length=200)]
    type: Literal["function"]
    function: CalledFunction

    def call(self, place: str) -> ToolCall:
        """The engine's terms. Raises RequestError for arguments that are no JSON object, naming place."""
        try:
            arguments = json.loads(self.function.arguments or "{}")
            text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
            # half of a surrogate pair is no character
            text.encode()
        except (ValueError, RecursionError):
            arguments = text = None
        if text is None or not isinstance(arguments, dict):
            raise RequestError(
                f"The arguments of the call {self.id!r} are not a JSON object.",
                "Send them as the answer had them.",
                param=place,
            )
        return ToolCall(self.function.name, text)


def tool_use(tools: list[FunctionTool] | None, choice: ToolChoice | None, *, parallel: bool | None) -> ToolUse | None:
    """What a request offers; None: no tools, or none that may be called. Raises RequestError where they disagree."""
    offered = tuple(one.tool for one in tools or ())
    names = [tool.name for tool in offered]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(f"Two tools are called {twice!r}.", "Give each its own name.", param="tools")
    named = choice.function.name if isinstance(choice, ChosenTool) else None
    if named is not None and named not in names:
        raise RequestError(f"There is no tool {named!r}.", "Name one of tools.", param="tool_choice")
    if choice == "required" and not offered:
        raise RequestError("There are no tools to call.", "Send tools, or leave tool_choice out.", param="tool_choice")
    if not offered or choice == "none":
        return None
    must_call = named is not None or choice == "required"
    return ToolUse(offered, must_call=must_call, name=named, parallel=parallel is not False)
