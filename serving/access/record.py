"""What one request asked for and what became of it, noted where it is known, for the log of who asked what."""

from dataclasses import dataclass


@dataclass(slots=True)
class RequestRecord:
    """Filled on the way through the server. "" is what is not known, or does not apply.

    id is what the answer's x-request-id says, at_ms when it came, in milliseconds since 1970. model is the name that
    was asked for or changed, adapter the id that was named for it, answered the id of what answered. reason says why it
    was refused, in more words than the client got. is_open: it needs no key, and is written down nowhere. is_listing:
    it reads what any key may.
    """

    id: str = ""
    at_ms: int = 0
    caller: str = ""
    key_id: str = ""
    route: str = ""
    is_open: bool = False
    is_listing: bool = False
    model: str = ""
    adapter: str = ""
    answered: str = ""
    outcome: str = ""
    reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompts: tuple[str, ...] = ()
