"""Engine: what the HTTP layer needs of whatever runs the model, and the values that pass between the two."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from finetune.contracts.adapter import BaseIdentity, Quantization, ReferenceProbe
from finetune.contracts.errors import PlatformError
from serving.engines.calls import CallDelta, ToolCall, ToolUse

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class ChatTurn:
    """One message of a conversation. calls are an assistant's; content is a tool's answer where that has the turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class ChatPrompt:
    """A conversation whose next turn is the assistant's; the engine renders it with the base's chat template.

    use None offers no tools: then what looks like a call is text.
    """

    turns: tuple[ChatTurn, ...]
    use: ToolUse | None = None


@dataclass(frozen=True)
class TextPrompt:
    """Text to go on with. Names of special tokens in it count as those tokens: editors render infill themselves."""

    text: str


@dataclass(frozen=True)
class TokenPrompt:
    """Token ids to go on with, as they are."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class InfillPrompt:
    """Ask for the text between prefix and suffix; the engine renders it with the family's sentinels.

    context holds (path, text) of other files; the first are left out where not all fit. begun is how the answer
    begins, which is there already.
    """

    prefix: str
    suffix: str
    context: tuple[tuple[str, str], ...] = ()
    begun: str = ""


Prompt = ChatPrompt | TextPrompt | TokenPrompt | InfillPrompt


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. temperature 0 is greedy. seed None draws a new one for each request.

    max_tokens None means as many as the server allows and the context holds. stop are texts before which the answer
    ends. num_top_log_probs None asks for no log-probabilities, 0 for those of the chosen tokens alone.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    num_top_log_probs: int | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """slot names the adapter inside the engine; None is the base alone.

    schema is a JSON schema, as JSON text, that the answer satisfies; with tools that may be called, it or calls. None:
    any text.
    """

    prompt: Prompt
    sampling: Sampling
    slot: str | None = None
    schema: str | None = None


@dataclass(frozen=True)
class TokenScore:
    """A chosen token, its natural log-probability before temperature, and the likeliest tokens in its place."""

    text: str
    log_prob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Delta:
    """What one step added. text may be empty while a character or a stop text is incomplete.

    num_tokens counts the tokens generated in this step, the end token included; finish_reason is None but in the last.
    made_at is when, in seconds of the monotonic clock. num_malformed_calls counts what began as a call of a tool and is
    none, and went out as text.
    """

    text: str
    num_tokens: int
    finish_reason: FinishReason | None = None
    scores: tuple[TokenScore, ...] = ()
    calls: tuple[CallDelta, ...] = ()
    num_malformed_calls: int = 0
    made_at: float = field(default_factory=time.monotonic, compare=False)


class Generation(Protocol):
    """An accepted request. Iterating yields what comes; cancel ends it soon, and does nothing the second time."""

    @property
    def num_prompt_tokens(self) -> int: ...

    @property
    def num_cached_tokens(self) -> int:
        """Tokens of the prompt that were read for an earlier one; true once the first delta came."""
        ...

    @property
    def truncated(self) -> bool:
        """Whether some of the prompt's context was left out."""
        ...

    def __aiter__(self) -> AsyncIterator[Delta]: ...

    def cancel(self) -> None: ...

    def fail(self, error: PlatformError) -> None:
        """End it with error, if it has not ended."""
        ...


@dataclass(frozen=True)
class EngineDescription:
    """The base, all that an adapter must agree on, and max_context_tokens, the bound of prompt and answer together."""

    identity: BaseIdentity
    quantization: Quantization
    chat_template_digest: str
    tokenizer_digest: str
    max_context_tokens: int
    device: str


@dataclass(frozen=True)
class ProbeReading:
    """Log-probabilities of a reference probe's continuation, measured in this engine without and with the adapter.

    seconds is how long measuring took.
    """

    base_log_probs: tuple[float, ...]
    adapter_log_probs: tuple[float, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class Occupancy:
    """What an engine has in hand right now: requests that wait and that are answered, and memory held for adapters."""

    num_waiting: int
    num_running: int
    adapter_bytes: int


class Engine(Protocol):
    """Runs one base and the adapters attached to it. Methods are called from the event loop and do not block it."""

    @property
    def description(self) -> EngineDescription: ...

    @property
    def ready(self) -> bool:
        """Whether requests can be answered now."""
        ...

    @property
    def occupancy(self) -> Occupancy: ...

    async def generate(self, request: GenerationRequest) -> Generation:
        """Accept a request. Raises RequestError for a prompt that cannot be answered, BusyError when too many wait."""
        ...

    async def attach(self, slot: str, folder: Path, *, probe: ReferenceProbe) -> ProbeReading:
        """Load the adapter in folder under slot and measure it. When it raises AdapterError nothing is attached."""
        ...

    async def detach(self, slot: str) -> None:
        """Take the adapter off once the requests that were accepted before have ended; it does not wait for them."""
        ...

    def close(self) -> None:
        """Cancel what runs, refuse what waits, and free the thread; calling it again does nothing."""
        ...
