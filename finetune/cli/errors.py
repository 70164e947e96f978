"""Where errors become terminal text and exit codes, once."""

import os
import sys
import traceback
from collections.abc import Callable

import typer

from finetune.contracts.errors import PlatformError
from finetune.terminal.output import json_text, shown

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def run_guarded(body: Callable[[], object], *, debug: bool, as_json: bool) -> int:
    """Run a command line; the exit code is 0, that of a PlatformError, 1 for a bug, 130 when interrupted."""
    try:
        result = body()
    except PlatformError as error:
        report(error, debug=debug, as_json=as_json)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("\nInterrupted. What was saved is kept; a training run goes on with --resume.\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader of a pipe, such as head, has enough; Python would complain again when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except typer.TyperException as error:
        sys.stderr.write(f"Error: {shown(str(error))}\nSee --help of the command.\n")
        return EXIT_USAGE
    except Exception as error:
        report_bug(error, debug=debug)
        return EXIT_BUG
    return result if isinstance(result, int) else 0


def report(error: PlatformError, *, debug: bool, as_json: bool) -> None:
    """Print an expected failure: the message and what to do next on stderr; with --json a document on stdout too."""
    if debug:
        traceback.print_exc()
    problems = list(getattr(error, "problems", ()))
    if as_json:
        document = {"error": type(error).__name__, "message": error.message, "problems": problems, "hint": error.hint}
        sys.stdout.write(json_text(document) + "\n")
    lines = [f"Error: {error.message}", *(f"  {problem}" for problem in problems), error.hint]
    sys.stderr.write(shown("\n".join(lines)) + "\n")


def report_bug(error: Exception, *, debug: bool) -> None:
    """Print an unexpected failure: one line with the place, or the traceback with --debug."""
    if debug:
        traceback.print_exception(error)
        return
    place = traceback.extract_tb(error.__traceback__)[-1]
    sys.stderr.write(f"This is a bug: {type(error).__name__}: {error} ({place.filename}:{place.lineno}).\n")
    sys.stderr.write("Run the same command with --debug for the traceback, and report it.\n")
