"""GPU-hours of the papers' recipes, computed from what the parts before have measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.benchmarks.gpu_check.settings import at_size
from bench.benchmarks.gpu_check.task import SkippedError, Task
from bench.benchmarks.method_overhead import with_everywhere
from pretrain.methods import all_recipes
from pretrain.recipes import Recipe

IMAGES = {"ImageNet-1k train": 1_281_167, "COCO train2017": 118_287, "ImageNet-100 train": 126_689}
"""Number of images of each data set, by the beginning of `Recipe.data`."""


def estimates(task: Task) -> None:
    """Hours on one such GPU, in bf16: the longer of the steps' time and the loader's."""
    speed, compared = task.earlier("throughput"), task.earlier("methods").get("rows", [])
    if "step_images_per_second" not in speed or not compared:
        raise SkippedError("they are computed from the parts `throughput` and `methods`, which found nothing")
    rows = {row["method"]: row for row in compared}
    base = next(iter(rows.values()))
    hours: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for recipe in all_recipes().values():
        if recipe.name.endswith("-mini"):
            continue
        row = rows.get(type(recipe.method).__name__)
        if row is None:
            left_out[recipe.name] = "its method was not measured"
        elif not task.tiny and recipe.backbone != "resnet50":
            left_out[recipe.name] = f"measured with a ResNet-50, not with {recipe.backbone}"
        else:
            hours.append(_estimate(task, recipe, row, base, speed))
    task.note(
        hours=hours,
        left_out=left_out,
        computed_from="images of all epochs x seconds per image of MoCo v2's step (part throughput) x step time over "
        "MoCo v2's (part methods), or / images per second of the loader, scaled by pixels, where that is longer",
    )
    for one in hours:
        scaled = f", views scaled by {one['scaled_views']:.2f}" if one["scaled_views"] != 1 else ""
        task.line(
            f"{one['recipe']}: {one['gpu_hours']:.0f} GPU-hours (computed; {one['bound_by']}; "
            f"step {one['ratio']:.2f} of MoCo v2's as of {one['measured_on']}{scaled})"
        )
    if left_out:
        task.line(f"not estimated: {', '.join(left_out)}")


def _estimate(
    task: Task, recipe: Recipe, row: dict[str, Any], base: dict[str, Any], speed: dict[str, Any]
) -> dict[str, Any]:
    images = next(count for data, count in IMAGES.items() if recipe.data.startswith(data)) * recipe.epochs
    same = recipe.method == all_recipes()[row["recipe"]].method  # but for the epochs, often
    sizes = row["sizes"] if same else _view_sizes(task, recipe)
    scaled = _pixels(sizes) / _pixels(row["sizes"])
    ratio = row["time_over_base"]["median"]
    step = images / speed["step_images_per_second"] * ratio * scaled / 3600
    found: dict[str, Any] = {
        "recipe": recipe.name,
        "images": images,
        "ratio": ratio,
        "measured_on": row["recipe"],
        "batch_measured": row["batch"],
        "scaled_views": scaled,
        "step_hours": step,
        "loader_hours": None,
    }
    if "loader_images_per_second" in speed:
        pixels = _pixels(sizes) / _pixels(base["sizes"])
        found["loader_hours"] = images / speed["loader_images_per_second"] * pixels / 3600
    longest = max(step, found["loader_hours"] or 0.0)
    return found | {"gpu_hours": longest, "bound_by": "step" if longest == step else "loader"}


def _pixels(sizes: list[int]) -> int:
    return sum(size**2 for size in sizes)


def _view_sizes(task: Task, recipe: Recipe) -> list[int]:
    """Sides of the views of a recipe, at the size of the task; they do not depend on the backbone."""
    method = with_everywhere(recipe.method, "backbone", "resnet18")
    sized = at_size(task, replace(recipe, method=method), recipe.batch_size)
    return [spec.size for spec in sized.method.build().plan.specs]
