"""The size at which the parts train: that of the papers, or one that a CPU does in a second."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.benchmarks.gpu_check.task import Task
from bench.benchmarks.method_overhead import equalised
from pretrain.methods import all_recipes
from pretrain.recipes import Recipe


@dataclass(frozen=True)
class Size:
    """The amount of training."""

    batch: int
    """Images of a step where one method trains."""
    small_batch: int
    """Images of a step where methods are compared, and where pipelines are."""
    images: int
    """Number of files that the images are taken from."""
    side: int
    """Longer side of those files in pixels, at least."""
    epoch: int
    """Images of an epoch."""
    rounds: int
    warmup: int
    steps: int


PAPER = Size(batch=256, small_batch=128, images=512, side=500, epoch=128_000, rounds=3, warmup=3, steps=10)
TINY = Size(batch=8, small_batch=8, images=16, side=48, epoch=64, rounds=1, warmup=1, steps=1)


def size(task: Task) -> Size:
    """The size at which `task` is done."""
    return TINY if task.tiny else PAPER


def base_recipe(task: Task, batch: int) -> Recipe:
    """MoCo v2: ResNet-50 at 224 px in bf16 as in the paper, or a tiny one."""
    return at_size(task, all_recipes()["moco-v2-mini" if task.tiny else "moco-v2-imagenet-200ep"], batch)


def at_size(task: Task, recipe: Recipe, batch: int) -> Recipe:
    """`recipe` with batches of `batch` images in bf16; where the task is tiny, in fp32 on a ResNet-18 at 32 px."""
    if task.tiny:
        return equalised(recipe, backbone="resnet18", view_size=32, batch_size=batch, precision="fp32")
    return replace(recipe, batch_size=batch, precision="bf16")
