"""Tools and the calls of them: what a request offers, and what an answer holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tool:
    """A function that the model may ask for. parameters is a JSON schema of an object, as JSON text.

    description "" is none. strict says that the arguments of a call must satisfy the schema even where no call is asked
    for.
    """

    name: str
    description: str
    parameters: str
    strict: bool = False


@dataclass(frozen=True)
class ToolUse:
    """The tools of a request. must_call: the answer is calls and nothing else, of the tool called name unless None.

    parallel False allows one call at most.
    """

    tools: tuple[Tool, ...]
    must_call: bool = False
    name: str | None = None
    parallel: bool = True

    @property
    def callable(self) -> tuple[Tool, ...]:
        """Those that may be called."""
        return tuple(tool for tool in self.tools if self.name in (None, tool.name))


@dataclass(frozen=True)
class ToolCall:
    """A whole call; arguments is a JSON object as text."""

    name: str
    arguments: str


@dataclass(frozen=True)
class CallDelta:
    """What one step added to the call at index: its name, in the first delta of each, or more of its arguments."""

    index: int
    name: str | None = None
    arguments: str = ""
