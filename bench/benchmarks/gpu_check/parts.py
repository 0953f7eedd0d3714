"""The parts, in the order of their worth, and how long each may take."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

PACKAGE = "bench.benchmarks.gpu_check"


@dataclass(frozen=True)
class Part:
    """One thing that a GPU shows: a function of a `Task`, named by its module, and its budget in seconds."""

    name: str
    what: str
    budget: float
    where: str
    """The part's function, as `module:function`."""
    takes_rest: bool = False
    """Whether the part also gets what parts before it left of their budgets. It may then be ended without failing."""
    asked: bool = False
    """Whether the part runs only where it is named."""

    def __call__(self, task: Any) -> None:
        """Run the part in this process."""
        module, _, function = self.where.partition(":")
        getattr(import_module(module), function)(task)


PARTS = (
    Part("machine", "what the values depend on", 20, f"{PACKAGE}.about:machine_part"),
    Part("tests", "the CUDA tests", 70, f"{PACKAGE}.device_tests:tests"),
    Part("throughput", "MoCo v2, ResNet-50: images/s, alone and end to end", 90, f"{PACKAGE}.throughput:throughput"),
    Part("methods", "step time and memory of the methods over MoCo v2", 80, f"{PACKAGE}.methods:methods"),
    Part("pipelines", "our pipeline over Pillow's and lightly's", 40, f"{PACKAGE}.throughput:pipelines"),
    Part("nccl", "one process of NCCL", 15, f"{PACKAGE}.collectives:collectives"),
    Part("transfer", "the four mini protocols with ResNet-50", 120, f"{PACKAGE}.transfer:transfer"),
    Part("estimates", "GPU-hours of the papers' recipes", 15, f"{PACKAGE}.estimates:estimates"),
    Part("compile", "MoCo v2, ResNet-50: torch.compile", 20, f"{PACKAGE}.throughput:compiled", takes_rest=True),
    Part("protocols", "VOC C4 and COCO FPN B at full size", 180, f"{PACKAGE}.protocols:protocols", asked=True),
)
TOTAL = sum(part.budget for part in PARTS if not part.asked)
"""Seconds that the whole may take, without what has to be asked for."""
