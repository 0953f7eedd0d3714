"""The kinds of probes, and reading the plan of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.errors import BenchError
from bench.probes.plans.base import ProbePlan
from bench.probes.plans.cells import (
    DATA_LABELS,
    ClassifierPlan,
    ClusterPlan,
    ForegroundPlan,
    HeadPlan,
    LidarPlan,
    RankPlan,
    RetrievalPlan,
    RobustnessPlan,
    SegmentPlan,
)
from bench.probes.plans.images import ImageClassifierPlan, LowShotPlan, SvmPlan
from bench.probes.plans.videos import PropagationPlan

KINDS: Mapping[str, type[ProbePlan]] = {
    "linear": ClassifierPlan,
    "knn": ClassifierPlan,
    "robustness": RobustnessPlan,
    "head": HeadPlan,
    "clusters": ClusterPlan,
    "foreground": ForegroundPlan,
    "segments": SegmentPlan,
    "retrieval": RetrievalPlan,
    "rank": RankPlan,
    "lidar": LidarPlan,
    "image_linear": ImageClassifierPlan,
    "image_knn": ImageClassifierPlan,
    "svm": SvmPlan,
    "low_shot": LowShotPlan,
    "propagation": PropagationPlan,
}
"""Classes of the plans, by the kind of probe."""


def read_probe_plan(plan: Mapping[str, Any]) -> ProbePlan:
    """The plan that a protocol writes as `plan=dict(kind=..., ...)`.

    Raises:
        BenchError: a field is missing, unknown or out of range.
    """
    kind = plan.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise BenchError(f"there is no probe of kind {kind!r}: choose one of {', '.join(KINDS)}")
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plan.items()}
    if fields.get("classes") == DATA_LABELS:
        fields["classes"] = 0
    try:
        return KINDS[kind](**fields)
    except (TypeError, ValueError) as error:
        raise BenchError(f"the plan of a probe is not valid: {type(error).__name__}: {error}") from error
