"""Plans of probes: the `plan` in a protocol's `protocol = dict(...)`. Reading one imports nothing heavy."""

from bench.probes.plans.base import ProbePlan
from bench.probes.plans.cells import (
    STRIDE,
    CellPlan,
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
from bench.probes.plans.images import ImageClassifierPlan, ImagePlan, LowShotPlan, SvmPlan
from bench.probes.plans.kinds import KINDS, read_probe_plan
from bench.probes.plans.videos import PropagationPlan

__all__ = [
    "KINDS",
    "STRIDE",
    "CellPlan",
    "ClassifierPlan",
    "ClusterPlan",
    "ForegroundPlan",
    "HeadPlan",
    "ImageClassifierPlan",
    "ImagePlan",
    "LidarPlan",
    "LowShotPlan",
    "ProbePlan",
    "PropagationPlan",
    "RankPlan",
    "RetrievalPlan",
    "RobustnessPlan",
    "SegmentPlan",
    "SvmPlan",
    "read_probe_plan",
]
