"""The one tree of errors that a user may meet: each names the thing, the place and the next command.

Messages are turned into terminal text once, in finetune/cli/errors.py. Anything outside this tree is a bug.
"""

from collections.abc import Sequence


class PlatformError(Exception):
    """Base of every expected failure.

    message names the thing and the place; hint is what to type or change next; exit_code is the process's exit status.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"


class UsageError(PlatformError):
    """The command line itself is wrong: an option's value, a name that does not exist."""

    exit_code = 2


class InputError(PlatformError):
    """A file or the data of the user is wrong."""

    exit_code = 3


class RepositoryError(InputError):
    """A source is no git repository, or nothing in it can be used."""


class DatasetError(InputError):
    """A dataset folder is missing, damaged, or has no rows for what was asked."""


class RecipeError(InputError):
    """A recipe or pipeline file has mistakes; problems holds one line per mistake, all of them at once."""

    def __init__(self, message: str, hint: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {problem}" for problem in self.problems), self.hint])


class BaseModelError(InputError):
    """A base model folder is missing, damaged, or of a family that is not supported."""


class AdapterError(InputError):
    """An adapter is missing, damaged, made for another base, or changes nothing."""


class SignatureError(AdapterError):
    """An adapter is not signed by a key that is trusted, or was altered since, or its key or itself was revoked."""


class RunError(InputError):
    """A run folder is missing, damaged, or in a state that does not allow what was asked."""


class DivergedError(RunError):
    """Training went out of hand: a loss or a gradient is not finite."""


class MachineError(PlatformError):
    """This machine cannot do it: too little memory, no free disk, a missing program."""

    exit_code = 4


class EgressError(MachineError):
    """Something tried to leave the machine: a connection to an address that is not loopback was refused."""


class GateError(PlatformError):
    """A check that guards a release said no."""

    exit_code = 5
