"""Losses and learning rates to Weights & Biases or to trackio, whose clients take the same few calls.

Both are optional and of no influence on a run: one that cannot be reached while it trains is given up with a line, and
training goes on. `losses.csv` has all values in any case.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final, Literal

from bench.errors import BenchError

TrackerName = Literal["wandb", "trackio"]
PROJECT: Final = "densebench"
"""Project in which the runs appear; the clients' own environment variables choose account, server and folder."""
_HINTS: Final = {"wandb": "log in (`wandb login`), or set WANDB_MODE=offline", "trackio": "see its documentation"}


class Tracker:
    """A run at the service `name`, called `title` there; `key` finds it again when the run is continued.

    Raises:
        BenchError: the client is not installed, or cannot start.
    """

    def __init__(self, name: TrackerName, title: str, key: str, facts: Mapping[str, Any]) -> None:
        require_tracker(name)
        self.name = name
        # W&B finds a run by its id, trackio by its name
        how = {"name": title, "id": key} if name == "wandb" else {"name": f"{title}-{key[:8]}"}
        try:
            self._run: Any = importlib.import_module(name).init(
                project=PROJECT, config=dict(facts), resume="allow", **how
            )
        except Exception as error:  # whatever the client raises
            raise BenchError(f"{name} cannot start: {_words(error)}; {_HINTS[name]}") from error

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Send the values of `iteration`."""
        self._try(lambda: self._run.log(dict(values), step=iteration))

    def close(self) -> None:
        """End the run at the service."""
        self._try(lambda: self._run.finish())

    def _try(self, call: Any) -> None:
        if self._run is None:
            return
        try:
            call()
        except Exception as error:  # whatever the client raises: a run of days does not end for it
            print(f"{self.name} gets no more values: {_words(error)}; training goes on", flush=True)
            self._run = None


def require_tracker(name: TrackerName) -> None:
    """Raises BenchError where the client is not installed."""
    if find_spec(name) is None:
        raise BenchError(f"{name} is not installed: pip install {name}")


def _words(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
