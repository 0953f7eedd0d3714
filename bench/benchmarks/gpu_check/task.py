"""What a part is given and gives: options in, values and lines out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import BenchError
from leaderboard.base.files import write_atomic

if TYPE_CHECKING:  # PyTorch takes seconds to import, which the command itself and some parts have no need of
    import torch

State = Literal["running", "passed", "failed", "skipped", "ended"]
"""State of a part; `ended` is by the budget: what was found until then is kept."""


class CheckFailedError(BenchError):
    """Something that the part was to show does not hold."""


class SkippedError(BenchError):
    """The part has nothing to do here; the message says why."""


@dataclass(frozen=True)
class Options:
    """The options that the command was given."""

    data: Path
    """Images as `pretrain.data.batches.open_images` takes them."""
    device: str | None
    """Device, cuda or cpu; None: cuda where there is one."""
    tiny: bool
    """Whether only to show that every part runs: nothing measured so is worth reading."""
    workers: int | None
    """Loading processes; None: as many as training would start."""
    transfer_data: Path | None
    """A data root for the transfer protocols; None: generated data."""
    report: Path
    """The command's JSON file, with what the parts before found."""

    def to_json(self) -> str:
        """The options as one line of text, for another process."""
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(text: str) -> Options:
        """The options that `to_json` wrote."""
        values = json.loads(text)
        for name in ("data", "transfer_data", "report"):
            values[name] = None if values[name] is None else Path(values[name])
        return Options(**values)


class Task:
    """A part at work. What it notes is on disk at once, so that nothing found is lost with the process."""

    def __init__(self, options: Options, file: Path, budget: float, say: Callable[[str], None]) -> None:
        self.options = options
        self._file, self._say = file, say
        self._deadline = time.monotonic() + budget
        self._found: dict[str, Any] = {"state": "running", "reason": None, "result": {}, "lines": []}

    @cached_property
    def device(self) -> torch.device:
        """The device on which the part works."""
        import torch

        return torch.device(self.options.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def tiny(self) -> bool:
        """Whether nothing but running counts."""
        return self.options.tiny

    @property
    def left(self) -> float:
        """Seconds until the part is ended."""
        return self._deadline - time.monotonic()

    @property
    def workers(self) -> int:
        """Loading processes of a pipeline."""
        from pretrain.run.processes import Process

        return Process(self.device).loader_workers() if self.options.workers is None else self.options.workers

    def note(self, **values: Any) -> None:
        """Add values to the part's result."""
        self._found["result"].update(values)
        self._write()

    def line(self, text: str) -> None:
        """Show a line to the user, and keep it."""
        self._found["lines"].append(text)
        self._write()
        self._say(text)

    def end(self, state: State, reason: str | None = None) -> None:
        """Say how the part ended."""
        self._found |= {"state": state, "reason": reason}
        self._write()

    def earlier(self, part: str) -> dict[str, Any]:
        """The result of a part before this one; empty where it found nothing."""
        report = json.loads(self.options.report.read_text()) if self.options.report.is_file() else {"parts": {}}
        return report["parts"].get(part, {}).get("result") or {}

    def _write(self) -> None:
        write_atomic(self._file, json.dumps(self._found, default=float))
