"""The curves of a run: its losses, and the probes of its backbone, as they are exported with the weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from leaderboard.base.validation import first_problem
from leaderboard.records.extras import POINTS, Curve, Curves
from pretrain.errors import PretrainError
from pretrain.run.history import WatchedRun
from pretrain.run.plots import thinned


def training_curves(folder: Path, sha256: str) -> Curves:
    """The losses of the run in `folder`, each as the means of at most `POINTS` sections, and its probes.

    `sha256` is the hash of the weights with which the run ended. A run whose log is gone has no losses.

    Raises:
        PretrainError: the log or the file of the probes is damaged.
    """
    run = WatchedRun(folder, keep_history=True)
    run.update()
    try:
        return Curves(schema_version=1, sha256=sha256, curves=(*_probes(run), *_losses(run)))
    except ValidationError as error:
        problem = f"the log of {folder} is damaged: {first_problem(error)}"
        raise PretrainError(f"{problem}; move log.jsonl away to export without its losses") from error


def _losses(run: WatchedRun) -> Iterator[Curve]:
    assert run.history is not None  # it was asked for
    steps = np.array(run.history.steps, np.float64)
    for name, column in run.history.columns.items():
        if "loss" in name.split("_"):
            at, mean, _, _ = thinned(steps, np.array(column), POINTS)
            finite = np.isfinite(mean)
            if finite.any():
                values = tuple(float(f"{value:.5g}") for value in mean[finite].tolist())
                yield Curve(name=name, steps=tuple(map(int, at[finite].tolist())), values=values, errors=None)


def _probes(run: WatchedRun) -> Iterator[Curve]:
    for name, data in dict.fromkeys((line.probe, line.data) for line in run.probes):
        lines = [line for line in run.probes if (line.probe, line.data) == (name, data)]
        yield Curve(
            name=name,
            steps=tuple(line.step for line in lines),
            values=tuple(line.value for line in lines),
            errors=tuple(line.standard_error for line in lines),
        )
