"""How long an answer may get beside its prompt."""

from serving.errors import RequestError


def answer_room(num_prompt_tokens: int, wanted: int | None, *, context: int, most: int) -> int:
    """Tokens of the answer: as many as wanted, None for at most most, as long as context tokens hold both.

    Raises RequestError when they do not.
    """
    room = context - num_prompt_tokens
    if room < max(1, wanted or 1):
        asked = f"{num_prompt_tokens} tokens of prompt" + (f" and {wanted} of answer" if wanted else "")
        raise RequestError(
            f"This server holds {context} tokens, the request has {asked}.",
            "Shorten the prompt or lower max_tokens.",
            code="context_length_exceeded",
        )
    return min(room, wanted or most)
