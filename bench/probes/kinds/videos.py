"""The probes of videos, by data set: objects, parts of people, or joints are followed by frozen features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from bench.clock import Clock
from bench.datasets.davis import DAVIS_2016, DAVIS_2017
from bench.datasets.jhmdb import JHMDB
from bench.datasets.vip import VIP
from bench.errors import BenchError
from bench.probes.kinds.propagation import Extractor, follow_objects
from bench.probes.kinds.video_joints import follow_joints
from bench.probes.kinds.video_parts import follow_parts
from bench.probes.material import Findings
from bench.probes.plans import PropagationPlan

Follow = Callable[[PropagationPlan, Extractor, Path, str, torch.device, Clock], tuple[Findings, list[str]]]
FOLLOW: Mapping[str, Follow] = {
    DAVIS_2016: follow_objects,
    DAVIS_2017: follow_objects,
    VIP: follow_parts,
    JHMDB: follow_joints,
}


def follow(
    plan: PropagationPlan, extract: Extractor, data_root: Path, dataset: str, device: torch.device, clock: Clock
) -> tuple[Findings, list[str]]:
    """Findings of all val videos of a data set, and the videos' names.

    Raises:
        BenchError: the data set has no videos, or it cannot be read, or cells are not finite.
    """
    if dataset not in FOLLOW:
        raise BenchError(f"{dataset} has no videos: a probe of videos takes {', '.join(FOLLOW)}")
    found, names = FOLLOW[dataset](plan, extract, data_root, dataset, device, clock)
    channels = extract(torch.zeros(1, 3, 64, 64, device=device)).shape[1]
    return replace(found, channels=channels), names
