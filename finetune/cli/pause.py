"""finetune serve pause: the card without a training run, for whatever else needs it."""

import time
from contextlib import suppress

from finetune.cli.card import having_card
from finetune.terminal.options import DEFAULT_HOME, HomeFolder

EXAMPLES = "Examples: `finetune serve pause`, `finetune serve pause --home /srv/finetune`."
NAP_SECONDS = 3600.0


def pause(home: HomeFolder = DEFAULT_HOME) -> None:
    """Let the servers of this home leave the card until Ctrl-C; then, or when this is killed, they come back."""
    from finetune.contracts.run import Home
    from finetune.terminal.output import note
    from finetune.terminal.signals import interrupted_by_signals

    held = having_card(Home(home.absolute()), "finetune serve pause")
    with suppress(KeyboardInterrupt), interrupted_by_signals(), held:
        note("The card is yours. Ctrl-C lets the servers come back.")
        while True:
            time.sleep(NAP_SECONDS)
