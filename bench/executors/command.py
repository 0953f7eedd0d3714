"""A pretraining as a run: the command line itself, on one device or, by torchrun, on several of one machine."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from cyclopts import Parameter

from bench.errors import BenchError
from leaderboard.base.errors import Interrupted

TORCHRUN: Final = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


@dataclass(frozen=True)
class CommandRun:
    """A command that continues what it finds when it is repeated."""

    key: str
    folder: Path
    """Folder for the log and the lock."""
    words: tuple[str, ...]
    """The command line after the interpreter."""

    @property
    def log(self) -> Path:
        """The file that holds what the command printed."""
        return self.folder / "job.log"


def pretrain_words(arguments: Sequence[str], devices: int) -> tuple[str, ...]:
    """The words after the interpreter for `densebench pretrain ARGUMENTS`, with one process for each device."""
    processes = (*TORCHRUN, str(devices)) if devices > 1 else ()
    return (*processes, "-m", "densebench", "pretrain", *arguments)


def execute_command(run: CommandRun, threads: int) -> None:
    """Execute the command; a SIGTERM is handed on to it, and its end awaited.

    Raises:
        BenchError: it failed; what it printed stands above.
        Interrupted: it was stopped.
    """
    process = subprocess.Popen([sys.executable, *run.words])
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        process.send_signal(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if stopped and code:
        raise Interrupted("stopped: it continues when it is started again", signal.SIGTERM)
    if code:
        raise BenchError(f"the command ended with exit code {code}: its log says why")


def arguments_of(command: Callable[..., Any], given: Mapping[str, Any]) -> list[str]:
    """The command-line arguments under which `command` (a function of the command line) gets the values `given`.

    Values that are the defaults are left out. Positional parameters come first, as they are.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    words: list[str] = []
    for name, parameter in inspect.signature(command).parameters.items():
        value = given.get(name, parameter.default)
        if value == parameter.default:
            continue
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            words.append(str(value))
            continue
        marks = [one for one in typing.get_args(hints[name])[1:] if isinstance(one, Parameter)]
        option = next((own for one in marks for own in one.name or ()), f"--{name.replace('_', '-')}")
        if value is True:
            words.append(option)
        else:
            words += [word for one in (value if isinstance(value, list) else [value]) for word in (option, str(one))]
    return words
