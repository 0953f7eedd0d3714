"""Evaluates two frozen backbones together, by their concatenated cells, where objects are followed through videos.

As SFC does at test time (Hu et al., ECCV 2022, arXiv 2207.10456): features of fine correspondence tell places apart
that look alike, those of an image-level method say what a place shows. A table of backbones has no row for two of them,
so values are kept in a file of their own, `fusion.json`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.clock import Clock
from bench.datasets import check
from bench.environment import describe_environment
from bench.errors import BenchError
from bench.probes.cells import freeze
from bench.probes.kinds.propagation import fine_cells, fused
from bench.probes.kinds.videos import follow
from bench.probes.plans import PropagationPlan
from bench.protocols import Protocol
from leaderboard.base.files import make_folder, write_atomic
from leaderboard.shares import Shares, difference_error
from pretrain.exported import read_exported

FUSION = "fusion.json"


@dataclass(frozen=True)
class Measured:
    """The metrics of one way of reading the videos, in per cent, and each video's share in them."""

    name: str
    metrics: dict[str, float]
    shares: Shares

    def minus(self, other: Measured, metric: str) -> tuple[float, float | None]:
        """Difference of a metric, and its standard error for the draw of the videos, in points of per cent."""
        return self.metrics[metric] - other.metrics[metric], difference_error(self.shares, other.shares, metric)


def fuse(
    fine: Path, semantic: Path, protocol: Protocol, data: Path, out: Path, *, weight: float, parts: bool
) -> list[Measured]:
    """Follow objects by the fused cells of two exported backbones, and with `parts` by those of each alone.

    `weight` is the factor of the cells of `fine`, `bench.probes.kinds.propagation.fused`. The first item is the fusion;
    all is written to `fusion.json` in the folder `out`.

    Raises:
        BenchError: the protocol is none of videos, the weight is negative, or a backbone or the data cannot be used.
        FileError: `out` cannot be written.
    """
    plan = protocol.plan
    if not isinstance(plan, PropagationPlan):
        raise BenchError(f"{protocol.id} follows no objects through videos: take e.g. frozen_davis17_sfc")
    if not 0 <= weight < float("inf"):
        raise BenchError(f"the weight of the first backbone's cells is a number of at least 0, not {weight:g}")
    started = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = [freeze(read_exported(folder), device) for folder in (fine, semantic)]
    dataset = check(data, protocol.dataset).reference()
    make_folder(out)
    first, second = map(fine_cells, networks)
    ways = {"fused": fused(first, second, weight)}
    if parts:
        ways |= {"fine": first, "semantic": second}
    measured = []
    for name, extract in ways.items():
        found, videos = follow(plan, extract, data, protocol.dataset, device, Clock())
        measured.append(Measured(name, dict(found.metrics), Shares(tuple(videos), found.shares)))
    record = {
        "protocol": protocol.reference().model_dump(),
        "dataset": dataset.model_dump(),
        "weight": weight,
        **{
            name: {"name": network.card.name, "card_sha256": network.card.sha256}
            for name, network in zip(("fine", "semantic"), networks, strict=True)
        },
        "metrics": {one.name: one.metrics for one in measured},
        "standard_errors": {one.name: one.shares.standard_errors() for one in measured},
        "environment": describe_environment(device, "fp32").model_dump(),
        "wall_seconds": time.perf_counter() - started,
    }
    write_atomic(out / FUSION, json.dumps(record, indent=2) + "\n")
    return measured
