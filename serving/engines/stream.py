"""From tokens to an answer's text: incremental decoding, stop texts, and the way to the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from finetune.contracts.errors import PlatformError
from serving.engines.base import Delta
from serving.engines.thread import post

# UTF-8 has at most 4 bytes a character: when as many tokens end in no whole character, they are none
MAX_INCOMPLETE_TOKENS = 4
REPLACEMENT = "\ufffd"


class StreamDecoder:
    """Decode one token at a time: text is held back while its last character is incomplete."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []
        self._pending: list[int] = []

    def push(self, token_id: int) -> str:
        """The text that token_id completes, empty when none."""
        self._pending.append(token_id)
        text = self._text()
        if text.endswith(REPLACEMENT) and len(self._pending) < MAX_INCOMPLETE_TOKENS:
            return ""
        self._keep(text)
        return text

    def flush(self) -> str:
        """What was held back."""
        text = self._text()
        self._keep(text)
        return text

    def _text(self) -> str:
        if not self._pending:
            return ""
        # Some tokenizers decode a token differently at the start of a text, so the tokens before come along
        return self._decode([*self._context, *self._pending]).removeprefix(self._decode(self._context))

    def _keep(self, text: str) -> None:
        # Bytes given up as no character must not join with those that follow into one
        self._context, self._pending = [] if text.endswith(REPLACEMENT) else self._pending, []


class StopTexts:
    """Cut a stream of text before the first of some stop texts; what may become one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """The text that is safe to send, and whether a stop text was met, after which nothing more may be pushed."""
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            return self._held[: min(found)], True
        keep = max((overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        ready, self._held = self._held[:cut], self._held[cut:]
        return ready, False

    def flush(self) -> str:
        """What was held back, when the answer ends without a stop text."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of text with which stop begins."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


class StreamedAnswer:
    """An accepted request whose deltas go from the model's thread to the event loop that asked."""

    def __init__(self, *, num_prompt_tokens: int, withdraw: Callable[[], None], truncated: bool = False) -> None:
        """withdraw is called when nobody waits for the answer any more."""
        self.num_prompt_tokens = num_prompt_tokens
        # the model's thread knows before the first delta
        self.num_cached_tokens = 0
        self.truncated = truncated
        self.cancelled = False
        self._withdraw = withdraw
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Delta | PlatformError] = asyncio.Queue()

    def send(self, item: Delta | PlatformError) -> None:
        """From any thread; a delta with a finish reason and an error are the last."""
        post(self._loop, self._items.put_nowait, item)

    def cancel(self) -> None:
        """End without an error; the model's thread notices after the step it is in."""
        if not self.cancelled:
            self.cancelled = True
            self._withdraw()

    def fail(self, error: PlatformError) -> None:
        """End with error, on the event loop, if it has not ended."""
        if not self.cancelled:
            self.send(error)
            self.cancel()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        try:
            while True:
                item = await self._items.get()
                if isinstance(item, PlatformError):
                    # one error may go to many, and each raise would add to what it holds
                    raise item.with_traceback(None)
                yield item
                if item.finish_reason:
                    return
        finally:
            self.cancel()
