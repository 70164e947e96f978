"""What is said to a vLLM server and what it says: prompts and answers as token ids, so that every text is ours."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serving.engines.base import Sampling

# The likeliest token is as good as certain below it; vLLM warns of smaller ones and takes 0 for greedy
GREEDY_BELOW = 1e-4


@dataclass(frozen=True)
class TokenLogProbs:
    """The natural log-probability of a chosen token before temperature, and those of the likeliest, by token id."""

    chosen: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class UpstreamStep:
    """One event of a stream: the tokens that it adds, the end token included.

    log_probs has an entry for each token where they were asked for; finish is None but in the last event.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[TokenLogProbs, ...] = ()
    finish: Literal["stop", "length"] | None = None


@dataclass(frozen=True)
class UpstreamFailure:
    """The server says in the middle of a stream that it failed."""

    message: str


def completion_body(
    token_ids: Sequence[int], sampling: Sampling, *, stop_ids: frozenset[int], max_new_tokens: int
) -> dict[str, Any]:
    """The body of POST /v1/completions but for the model.

    Stop texts are not among it: they are looked for in the text that we decode. ignore_eos leaves nothing but our own
    stop tokens, and what a base's generation_config.json would change is said outright.
    """
    body: dict[str, Any] = {
        "prompt": list(token_ids),
        "max_tokens": max_new_tokens,
        "temperature": 0.0 if sampling.temperature < GREEDY_BELOW else sampling.temperature,
        "top_p": sampling.top_p or GREEDY_BELOW,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": True,
        "stop_token_ids": sorted(stop_ids),
        "stream": True,
        "return_token_ids": True,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed % 2**63
    if sampling.num_top_log_probs is not None:
        body |= {"logprobs": sampling.num_top_log_probs, "return_tokens_as_token_ids": True}
    return body


def scoring_body(token_ids: Sequence[int]) -> dict[str, Any]:
    """The body of POST /v1/completions that asks how likely each token of a prompt was, but for the model."""
    return {"prompt": list(token_ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}


def read_scores(document: Mapping[str, Any], token_ids: Sequence[int]) -> tuple[float, ...]:
    """The natural log-probability of each token but the first. Raises ValueError for another shape."""
    try:
        rows = document["choices"][0]["prompt_logprobs"]
        return tuple(float(row[str(token)]["logprob"]) for row, token in zip(rows[1:], token_ids[1:], strict=True))
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no log-probabilities of the prompt: {error!r}") from error


def read_event(line: str, *, num_top: int | None) -> UpstreamStep | UpstreamFailure | None:
    """What one line of a stream says, None for one that says nothing. Raises ValueError for one that is no event.

    num_top is how many likeliest tokens were asked for, None: no log-probabilities.
    """
    if not line.startswith("data:") or line == "data: [DONE]":
        return None
    document = json.loads(line.removeprefix("data:"))
    if "error" in document:
        return UpstreamFailure(str(document["error"]))
    if not document.get("choices"):
        return None
    try:
        choice = document["choices"][0]
        token_ids = tuple(int(token) for token in choice["token_ids"] or ())
        finish = choice["finish_reason"]
        if finish not in (None, "stop", "length"):
            return UpstreamFailure(f"the answer ended with {finish}")
        log_probs = () if num_top is None or not token_ids else _log_probs(choice["logprobs"], num_top)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"an event without {error!r}") from error
    return UpstreamStep(token_ids, log_probs, finish)


def _log_probs(found: Mapping[str, Any], num_top: int) -> tuple[TokenLogProbs, ...]:
    rows = []
    # the chosen token is among the likeliest ones, though it may be none of them
    for chosen, top in zip(found["token_logprobs"], found["top_logprobs"], strict=True):
        ranked = sorted(((_token_id(name), float(value)) for name, value in top.items()), key=lambda one: -one[1])
        rows.append(TokenLogProbs(float(chosen), tuple(ranked[:num_top])))
    return tuple(rows)


def _token_id(name: str) -> int:
    return int(name.removeprefix("token_id:"))
