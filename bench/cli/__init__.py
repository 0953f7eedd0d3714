"""The command line: every verb, nothing else. Each verb calls one function and prints what it returns.

Exit codes: 0 done, 1 the work failed (the message says what to do), 2 the command itself was wrong.
"""

from __future__ import annotations

import sys

from cyclopts import CycloptsError

from bench.cli import evaluation, pretraining, protocols, tables  # noqa: F401 - they register their verbs
from bench.cli.common import app
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.printable import printable
from leaderboard.base.terminal import Console, accept_any_character

_LINES = 25
"""Lines of an error that are shown as lines: some name each of several files."""


def main() -> None:
    """Entry point of the `densebench` command."""
    accept_any_character()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Execute one command line and return its exit code."""
    errors = Console(stderr=True, soft_wrap=True)
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        errors.print("[red]usage:[/] ", end="")
        errors.print(printable(error, lines=_LINES), markup=False, highlight=False)
        errors.print("`densebench --help` lists the verbs, `densebench VERB --help` shows an example.", highlight=False)
        return 2
    except DenseBenchError as error:
        errors.print("[red]error:[/] ", end="")
        errors.print(printable(error, lines=_LINES), markup=False, highlight=False)
        return 1
    except OSError as error:
        errors.print("[red]error:[/] ", end="")
        errors.print(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        errors.print("stopped; repeat the command to continue")
        return 130
    return code if isinstance(code, int) else 0
