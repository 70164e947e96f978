"""Keep the known chatter of the libraries off the user's terminal, and nothing else."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Each is a message that the user can do nothing about; anything not named here is still shown.
KNOWN_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"`torch\.jit\.script", DeprecationWarning),  # torch itself, when bitsandbytes pulls in torch.jit
    (r".*torch\.cpu\.amp\.autocast.*is deprecated", FutureWarning),
    (r"None of the inputs have requires_grad=True", UserWarning),
    (r"`is_gradient_checkpointing` is deprecated", FutureWarning),  # PEFT asks for the library's old name
    (r"`broadcast_buffers` is deprecated", FutureWarning),  # the only name that TrainingArguments has for it
)
# bitsandbytes looks for an optional kernel package that this project leaves out on purpose: it would download code.
QUIET_LOGGERS = ("bitsandbytes", "bitsandbytes.backends.cpu.ops", "torch.distributed.elastic.multiprocessing.redirects")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Inside the block: no library progress bars, no notes below an error, none of the known warnings."""
    levels = {name: logging.getLogger(name).level for name in QUIET_LOGGERS}
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message, category in KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=category)
            with _quiet_transformers():
                yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging as library

    level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()
