"""The command line: every command, nothing else. Each command calls one function and prints what it returns.

Exit codes: 0 done, 1 the work failed (the message says what to do), 2 the command itself was wrong, 130 stopped by
Ctrl-C, 143 by SIGTERM. `--debug` or DENSEBENCH_DEBUG=1 shows where in the code an error arose.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from types import FrameType

from cyclopts import CycloptsError, MissingArgumentError

from bench.cli import (  # noqa: F401 - they register commands
    auditing,
    comparing,
    describing,
    evaluation,
    fusing,
    listings,
    planning,
    preparing,
    pretraining,
    protocols,
    roots,
    runs,
    starting,
    tables,
    verifying,
)
from bench.cli.common import app, is_first
from bench.errors import Queued
from leaderboard.base.errors import DenseBenchError, Interrupted
from leaderboard.base.files import describe_os_error
from leaderboard.base.printable import printable
from leaderboard.base.terminal import Console, accept_any_character

_LINES = 25
"""Lines of an error that are shown as lines: some name each of several files."""


def main() -> None:
    """Entry point of the `densebench` command."""
    accept_any_character()
    stop_once()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Execute one command line and return its exit code."""
    debug = "--debug" in arguments or os.environ.get("DENSEBENCH_DEBUG", "") not in ("", "0")
    try:
        code = app(
            [argument for argument in arguments if argument != "--debug"],
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 128 + signal.SIGPIPE
        if debug:
            Console(stderr=True, soft_wrap=True).print(traceback.format_exc(), markup=False, highlight=False, end="")
        return _report(error)
    return code if isinstance(code, int) else 0


def _nobody_reads() -> bool:
    """Whether what reads our output has ended, as `head` does; then nothing more is written."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not output.poll(0):  # an error or the end of its reader is always told
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _report(error: Exception | KeyboardInterrupt) -> int:
    """Say in a few lines what went wrong, and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        stop = Interrupted.after(error, "stopped: repeat the command to continue")
        if is_first():  # torchrun stops all processes of a run
            _say("", stop)
        return stop.exit_code
    if isinstance(error, Queued):
        Console(soft_wrap=True, highlight=False).print(printable(error), markup=False)
        return 0
    if isinstance(error, CycloptsError):
        _say("usage: ", _usage(error))
        _say("", "`densebench --help` lists the commands, `densebench COMMAND --help` shows an example.")
        return 2
    if isinstance(error, DenseBenchError):
        _say("error: ", error)
    elif isinstance(error, OSError):
        _say("error: ", describe_os_error(error))
    elif isinstance(error, MemoryError):
        _say("error: ", "the memory is full: close other programs, or give smaller files")
    else:
        words = printable(f"{type(error).__name__}: {error}", 500)
        _say("error: ", f"densebench has a fault: {_where(error)}: {words}")
        _say("", "Report this line and the command in the issues of the repository that you have densebench from;")
        _say("", "the command with --debug shows more.")
    return 1


def _usage(error: CycloptsError) -> str:
    """The words of `error`; of an option that was not given at all they say so."""
    given = not isinstance(error, MissingArgumentError) or error.keyword or (error.argument and error.argument.tokens)
    return str(error) if given else str(error).replace("requires an argument", "is missing")


def _where(error: Exception) -> str:
    """The last line of our own code on the way to the error: `bench/jobs.py:12`."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if any(f"/{name}/" in f.filename for name in ("bench", "pretrain", "leaderboard"))]
    found = (own or frames)[-1]
    return f"{'/'.join(found.filename.split('/')[-2:])}:{found.lineno}"


def _say(mark: str, text: object) -> None:
    errors = Console(stderr=True, soft_wrap=True)
    errors.print(f"[red]{mark}[/]", end="")
    errors.print(printable(text, lines=_LINES), markup=False, highlight=False)


def stop_once() -> None:
    """Let Ctrl-C and SIGTERM raise `Interrupted`, once, from now on: the other does not interrupt what cleans up then.

    A second Ctrl-C does interrupt it. A process that is forked from this one ends as usual.
    """
    command, stopped = os.getpid(), False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if os.getpid() != command:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not stopped or number == signal.SIGINT:
            stopped = True
            raise Interrupted(number=number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)
