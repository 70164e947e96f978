"""Hold an answer to a grammar: before each choice of a token, which ones may come. Masks are made beside the model."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from serving.errors import RequestError

MAX_COMPILED = 16
NUM_WORKERS = 4
BITS = 8
# Where the library's message begins to quote the grammar
CODE_FRAME = re.compile(r"\n +\d+ \| ")


class TokenConstraint:
    """One answer's place in its grammar. The mask for the next token is made while the model takes its step."""

    def __init__(
        self, matcher: LLMatcher, workers: ThreadPoolExecutor, *, param: str, failed: Callable[[], object]
    ) -> None:
        """param names the request's field that the grammar comes from; failed is called when it cannot be followed."""
        self._matcher = matcher
        self._param = param
        self._failed = failed
        self._workers = workers
        self._mask: Future[bytes] = workers.submit(matcher.compute_bitmask)

    def masked(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits (vocabulary), with minus infinity where a token may not come.

        Raises RequestError for a grammar that became too large to follow.
        """
        packed = torch.frombuffer(bytearray(self._mask.result()), dtype=torch.uint8).to(logits.device)
        self._check()
        shifts = torch.arange(BITS, dtype=torch.uint8, device=logits.device)
        allowed = ((packed[:, None] >> shifts) & 1).bool().flatten()[: len(logits)]
        return logits.masked_fill(~allowed, float("-inf"))

    def accept(self, token: int) -> bool:
        """Go on behind the chosen token; whether nothing can follow it. Raises RequestError as masked does."""
        self._matcher.consume_token(token)
        self._check()
        if self._matcher.is_stopped():
            return True
        self._mask = self._workers.submit(self._matcher.compute_bitmask)
        return False

    def _check(self) -> None:
        if self._matcher.is_error():
            self._failed()
            raise RequestError(
                "The schema became too complex to follow in the middle of the answer.",
                "Simplify it.",
                param=self._param,
            )


class Grammars:
    """Compiles grammars for one tokenizer, the newest of which are kept. The tokenizer is read at the first of them."""

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int]) -> None:
        """stop_ids: tokens with which an answer ends."""
        self._tokenizer = tokenizer
        self._stop_ids = stop_ids
        self._reading = threading.Lock()
        self._changed = threading.Lock()
        self._tokens: LLTokenizer | None = None
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._workers = ThreadPoolExecutor(NUM_WORKERS, thread_name_prefix="mask")

    def is_token(self, text: str) -> bool:
        """Whether text is an added token, which a grammar must name: no other tokens spell it."""
        return text in self._tokenizer.get_added_vocab()

    def constraint(self, grammar: str, *, param: str) -> TokenConstraint:
        """A new answer's constraint. Raises RequestError, with param, for what the library does not support."""
        with self._changed:
            compiled = self._compiled.get(grammar)
        if compiled is None:
            compiled = self._compile(grammar, param=param)
        with self._changed:
            self._compiled[grammar] = compiled
            self._compiled.move_to_end(grammar)
            while len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
            matcher = compiled.deep_copy()
        # copies share what they found out about the grammar, and with it a limit that one of them has met
        return TokenConstraint(matcher, self._workers, param=param, failed=lambda: self._forget(grammar))

    def _forget(self, grammar: str) -> None:
        with self._changed:
            self._compiled.pop(grammar, None)

    def close(self) -> None:
        """End the threads; calling it again does nothing."""
        self._workers.shutdown()

    def _compile(self, grammar: str, *, param: str) -> LLMatcher:
        matcher = LLMatcher(self._ll_tokenizer(param), grammar, log_level=0)
        if matcher.is_error():
            # between places in a grammar that the client does not know
            reason = CODE_FRAME.split(matcher.get_error())[0].rpartition("compile JSON schema: ")[2]
            raise RequestError(
                f"The schema is not supported: {' '.join(reason.split())[:300]}.", "Simplify it.", param=param
            )
        return matcher

    def _ll_tokenizer(self, param: str) -> LLTokenizer:
        with self._reading:
            if self._tokens is None:
                try:
                    self._tokens = from_tokenizer(self._tokenizer, eos_token=sorted(self._stop_ids))
                except ValueError as error:
                    raise RequestError(
                        f"Answers of this base cannot be held to a form: its tokenizer is of a kind that is not read "
                        f"({error}).",
                        param=param,
                    ) from error
            return self._tokens
