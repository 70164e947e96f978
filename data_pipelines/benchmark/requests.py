"""A commit's message as the request that a model is told: without tracker noise, addresses, names and secrets."""

import re
import secrets
from collections.abc import Iterable

from data_pipelines.config import RedactSection
from data_pipelines.document import Commit
from data_pipelines.mine.message import normalise
from data_pipelines.redact.form import Form
from data_pipelines.redact.people import People
from data_pipelines.redact.redactor import Redactor, ScanFailed
from finetune.contracts.placeholder import PLACEHOLDER

# references to a tracker: "(#12)", "gh-12", a link to an issue; with the verb before and others behind them
NUMBER = r"[(\[]\s*(?:#|gh-)\d+\s*[)\]]|(?<![\w&])(?:(?:pr|issue|bug)[ \t]*)?(?:#|\bgh-)\d+\b"
REFERENCE = rf"(?:{NUMBER}|https?://\S+/(?:issues|pulls?|merge_requests)/\S+)"
VERB = r"\b(?:fix(?:e[sd]|ing)?|clos(?:e[sd]?|ing)|resolv(?:e[sd]?|ing)|address(?:e[sd]|ing)?|refs?|see|from|by|in)"
ADDRESS = r"[ \t]*<?[\w.+-]+@[\w-]+(?:\.[\w-]+)+>?"
LEFT_OUT = re.compile(rf"(?i){ADDRESS}|[ \t,]*(?:{VERB}:?[ \t]+)?{REFERENCE}(?:(?:,|[ \t]and)?[ \t]+{REFERENCE})*")
TAG = re.compile(r"_[0-9a-f]{8}$|-[0-9a-f]{8}(?=@)")


class Requests:
    """Makes requests of messages. The authors of all commits are the names that are taken out."""

    def __init__(self, commits: Iterable[Commit]) -> None:
        people = People()
        for commit in commits:
            people.add(commit)
        # placeholders lose their tags below, so that the key need not be kept and the text is the same each time
        self._redactor = Redactor(RedactSection(), secrets.token_bytes(32), people=people)

    def request(self, message: str) -> str | None:
        """The request; None when the message says too little, or could not be scanned for secrets."""
        found = normalise(message)
        if found is None:
            return None
        found = normalise(LEFT_OUT.sub("", found))
        if found is None:
            return None
        try:
            text = self._redactor.redact(found, Form.PROSE).text
        except ScanFailed:
            return None
        return PLACEHOLDER.sub(lambda match: TAG.sub("", match[0]), text)
