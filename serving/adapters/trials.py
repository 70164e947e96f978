"""Two versions of a name side by side: a share of its requests, or a copy of each, goes to a second one."""

import random
from dataclasses import dataclass

from serving.adapters.versions import Version


@dataclass(frozen=True)
class Trial:
    """A version beside the one that a name stands for. share is of the requests, above 0 and below 1.

    share None: it gets a copy of every request, and nobody sees its answers.
    """

    version: Version
    share: float | None

    def pick(self, current: Version) -> Version:
        """What answers the next request."""
        # no secret hangs on it
        chosen = self.share is not None and random.random() < self.share  # noqa: S311
        return self.version if chosen else current
