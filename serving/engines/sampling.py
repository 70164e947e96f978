"""Choose the next token from logits, and say how likely it was."""

import math
from collections.abc import Callable

import torch

from serving.engines.base import Sampling, TokenScore
from serving.errors import EngineError

# The likeliest token is as good as certain below it, and single precision ends not far away
GREEDY_BELOW = 1e-4


def make_generator(sampling: Sampling, device: str) -> torch.Generator:
    """The random numbers of one request: the same seed, prompt and adapter give the same answer."""
    generator = torch.Generator(device=device)
    if sampling.seed is None:
        generator.seed()
    else:
        # torch takes 64 bits, the sign included in two's complement
        generator.manual_seed(sampling.seed % 2**63)
    return generator


def pick(logits: torch.Tensor, sampling: Sampling, *, generator: torch.Generator) -> int:
    """The next token's id from logits (vocabulary), float32. Raises EngineError when they are not numbers."""
    highest, likeliest = logits.max(dim=-1)
    # It is NaN if one of them is. Past an infinity all draws are of NaN, of which CUDA gives up the whole device
    if not math.isfinite(highest):
        raise EngineError("The model computed no number for the next token.", "Unload the adapter if one is in use.")
    if sampling.temperature < GREEDY_BELOW:
        return int(likeliest)
    # Subtracting first keeps a small temperature from making infinities
    probabilities = torch.softmax((logits - highest) / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        probabilities = _nucleus(probabilities, sampling.top_p)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def score(logits: torch.Tensor, token_id: int, *, num_top: int, decode: Callable[[list[int]], str]) -> TokenScore:
    """The chosen token's log-probability and the num_top likeliest tokens, before temperature and top_p."""
    log_probs = torch.log_softmax(logits, dim=-1)
    values, ids = log_probs.topk(num_top) if num_top else (log_probs[:0], [])
    top = tuple((decode([int(token)]), float(value)) for token, value in zip(ids, values, strict=True))
    return TokenScore(decode([token_id]), float(log_probs[token_id]), top)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero but for the likeliest tokens that together hold top_p; at least one stays (Holtzman et al., 1904.09751)."""
    values, order = probabilities.sort(descending=True)
    outside = values.cumsum(0) - values >= top_p
    outside[0] = False
    values[outside] = 0
    return torch.zeros_like(probabilities).scatter_(0, order, values)
