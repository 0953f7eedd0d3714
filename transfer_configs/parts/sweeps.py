"""Protocols of track fair: another track's protocol whose settings are chosen for each checkpoint."""

from collections.abc import Mapping
from typing import Any

DETECTION = [0.005, 0.01, 0.02, 0.04, 0.1]
"""Learning rates of detectors with batches of 16."""
SEGMENTATION = [0.001, 0.003, 0.01, 0.03, 0.1]
"""Learning rates of segmentation heads."""
SEED = 1000
"""Seed of all runs of a sweep: none of the seeds of the runs with the settings that it chose."""


def chosen(protocol: Mapping[str, Any], *, version: int = 1) -> dict[str, Any]:
    """The `protocol` of track fair, in its own `version`, with the data, model and schedule of another track's.

    Its learning rate, which stands in the plan, is one of those that are tried; a rate of the head keeps its ratio.
    """
    track, name = protocol["track"], protocol["id"]
    short = name.removeprefix(f"{track}_")
    return {
        **protocol,
        "id": f"fair_{short}" if track == "paper" else f"fair_{name}",
        "version": version,
        "title": f"{protocol['title']}, settings chosen",
        "track": "fair",
    }


def sweep(
    protocol: Mapping[str, Any],
    *,
    learning_rates: list[float],
    weight_decays: list[float],
    held_out: float,
    held_out_by: str = "image",
) -> dict[str, Any]:
    """The section `sweep`: every learning rate with every weight decay, each for a quarter of the schedule.

    Args:
        protocol: the protocol for which settings are chosen.
        learning_rates: peak learning rates, ascending.
        weight_decays: the protocol's own first.
        held_out: share (below 1) or number (from 1 on) of the training images, or of their folders, on which the runs
            are evaluated.
        held_out_by: `image` or `folder` (a city of Cityscapes).
    """
    return dict(
        learning_rates=learning_rates,
        weight_decays=weight_decays,
        iterations=protocol["plan"]["iterations"] // 4,
        held_out=held_out,
        held_out_by=held_out_by,
        seed=SEED,
    )
