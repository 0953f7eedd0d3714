"""Step time and memory of each method relative to MoCo v2, with everything else equal.

    python -m bench.benchmarks.method_overhead --view-size 96 --batch-size 128

All methods have the same backbone, view size, batch and precision, and take steps on finished views of synthetic
images that are already on the device. A method keeps its further views and the small crops of multi-crop: the table
says which views each method has. One method at a time is on the device together with MoCo v2: each round of the method
comes between two of MoCo v2, and its time is compared with their mean.

Memory is the peak of a separate process that takes a few steps: allocated on a GPU, resident on a CPU, where it
includes some hundred MiB of libraries.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from cyclopts import Parameter, run
from rich.table import Table
from torch import Tensor
from torch.nn.functional import interpolate

from bench.benchmarks.rounds import Contestant, Step, compare, endless, in_words, machine, measure, output, start
from bench.benchmarks.trainee import Trainee
from bench.errors import BenchError
from pretrain.data.augment import finish_views
from pretrain.data.batches import ImageSource, Loading, crop_batches
from pretrain.data.views import View
from pretrain.methods import METHODS, all_recipes
from pretrain.recipes import Recipe, find_recipe
from pretrain.run.memory import peak_memory_mib
from pretrain.run.processes import process_group

BASE = "moco-v2-mini"
BATCHES = 2
"""Number of batches on the device, which are used in turn."""
MEMORY_STEPS = 3


class SyntheticImages(ImageSource):
    """Images of colored clouds, each a function of its id; there are no files."""

    def __init__(self, count: int, side: int) -> None:
        super().__init__(Path("synthetic"), [f"class{k % 2}/{k:06d}" for k in range(count)])
        self.side = side

    def decode(self, index: int) -> Tensor:
        """Image `index` as uint8 (3, side, side)."""
        cells = np.random.default_rng(index).random((1, 3, 6, 6), dtype=np.float32)
        clouds = interpolate(torch.from_numpy(cells), size=(self.side, self.side), mode="bicubic")[0]
        return clouds.mul(255).clamp(0, 255).to(torch.uint8)

    def size(self, index: int) -> int:
        """Bytes of the decoded image."""
        return 3 * self.side**2


def equalised(recipe: Recipe, *, backbone: str, view_size: int, batch_size: int, precision: str) -> Recipe:
    """The recipe with these settings, wherever its method's config has a backbone or a view size."""
    method = with_everywhere(with_everywhere(recipe.method, "backbone", backbone), "view_size", view_size)
    return replace(recipe, method=method, batch_size=batch_size, precision=precision)  # type: ignore[arg-type]


def synthetic_views(trainee: Trainee, source: ImageSource, batches: int = BATCHES) -> list[list[View]]:
    """Finished views of some batches on the device, cropped from the synthetic images as from any others."""
    plan, process = trainee.method.plan, trainee.process
    made = []
    for epoch in range(batches):
        drawn = crop_batches(source, plan, Loading(trainee.recipe.batch_size, workers=0), epoch=epoch)
        views = [
            finish_views(c.to(process.device), spec, plan) for c, spec in zip(next(drawn), plan.specs, strict=True)
        ]
        for view in views:
            view.pixels = view.pixels.contiguous(memory_format=torch.channels_last)
        made.append(views)
    return made


def overhead(
    recipes: list[Recipe], device: torch.device, *, rounds: int, warmup: int, steps: int, memory: bool
) -> list[dict[str, Any]]:
    """For each recipe its step time, and the ratios of its time and memory to those of the first."""
    peaks = [_peak_in_own_process(recipe, str(device)) if memory else None for recipe in recipes]
    turns = {"rounds": rounds, "warmup": warmup, "steps": steps}
    with tempfile.TemporaryDirectory() as folder:
        base = Steps(recipes[0], device, Path(folder))
        seconds = measure([Contestant("base", base)], device, **turns)["base"]
        rows = [_row(recipes[0], seconds, seconds), *(beside(base, recipe, device, **turns) for recipe in recipes[1:])]
    return [
        row | {"peak_memory_mib": peak, "memory_over_base": peak / peaks[0] if peak and peaks[0] else None}
        for row, peak in zip(rows, peaks, strict=True)
    ]


class Steps:
    """A method with finished views on the device. Calling it opens it and yields its step.

    `folder` keeps what the method prepares. The synthetic images are `side` pixels wide and high: by default 1.5 times
    the largest view.
    """

    def __init__(
        self, recipe: Recipe, device: torch.device, folder: Path, *, side: int | None = None, batches: int = BATCHES
    ) -> None:
        source = _source(recipe, side)
        self._device = device
        self.peak_mib: float | None = None
        """Peak MiB allocated on the device in the last turn, by everything on it; None on a CPU."""
        self._trainee = Trainee(recipe, source, device, folder)
        self._views = synthetic_views(self._trainee, source, batches)

    @contextmanager
    def __call__(self) -> Iterator[Step]:
        """The step, which uses the batches in turn."""
        turn = endless(len(self._views))
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
        yield lambda: self._trainee.take(self._views[next(turn)])
        if on_gpu:
            self.peak_mib = peak_memory_mib(self._device)


def beside(
    base: Steps,
    recipe: Recipe,
    device: torch.device,
    *,
    rounds: int,
    warmup: int,
    steps: int,
    side: int | None = None,
    batches: int = BATCHES,
) -> dict[str, Any]:
    """The step time of `recipe` and its ratio to that of `base`, which runs before and after each turn of the method.

    The method is built here and freed afterwards: only it and `base` are on the device. `peak_memory_mib` is the most
    that a GPU allocated for the method; None on a CPU, where only a process as a whole has a peak.
    """
    turns = {"warmup": warmup, "steps": steps}
    before = torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
    with tempfile.TemporaryDirectory() as folder:
        found = Steps(recipe, device, Path(folder), side=side, batches=batches)
        contestants = [Contestant("", base), Contestant(recipe.name, found)]
        seconds = measure(contestants, device, rounds=rounds, **turns)
        last = measure(contestants[:1], device, rounds=1, **turns)
    peak = None if found.peak_mib is None else found.peak_mib - before
    del found, contestants
    release(device)
    around = [(a + b) / 2 for a, b in pairwise(seconds[""] + last[""])]
    return _row(recipe, seconds[recipe.name], around) | {"peak_memory_mib": peak}


def release(device: torch.device) -> None:
    """Free the device memory of objects that are no longer referenced."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _row(recipe: Recipe, seconds: list[float], base: list[float]) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "views": views_in_words(recipe),
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "base_seconds": base,
        "time_over_base": asdict(compare(seconds, base)),
    }


def views_in_words(recipe: Recipe) -> str:
    """Number and size of the views that a method uses, e.g. `2 x 96 + 6 x 32`."""
    sizes = Counter(spec.size for spec in recipe.method.build().plan.specs)
    return " + ".join(f"{count} x {size}" for size, count in sizes.items())


def peak_memory(recipe: Recipe, device: str) -> float:
    """Peak memory of this process in MiB after a few steps of the recipe."""
    source = _source(recipe)
    with tempfile.TemporaryDirectory() as folder:
        trainee = Trainee(recipe, source, torch.device(device), Path(folder))
        views = synthetic_views(trainee, source)
        for k in range(MEMORY_STEPS):
            trainee.take(views[k % BATCHES])
    return peak_memory_mib(torch.device(device))


def _source(recipe: Recipe, side: int | None = None) -> SyntheticImages:
    if side is None:
        side = max(spec.size for spec in recipe.method.build().plan.specs) * 3 // 2
    return SyntheticImages(recipe.batch_size, side)


def _peak_in_own_process(recipe: Recipe, device: str) -> float:
    # Another process for each: a peak counts everything that the process ever held.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_in_own_process, recipe, device, torch.get_num_threads()).result()


def _in_own_process(recipe: Recipe, device: str, threads: int) -> float:
    torch.set_num_threads(threads)
    return peak_memory(recipe, device)


def with_everywhere(part: Any, name: str, value: object) -> Any:
    """A copy of a method's config in which every field with the name `name`, at any depth, is `value`."""
    changes: dict[str, object] = {}
    for item in fields(part):
        inner = getattr(part, item.name)
        if item.name == name:
            changes[name] = value
        elif is_dataclass(inner):
            changes[item.name] = with_everywhere(inner, name, value)
    return replace(part, **changes)


def _chosen(names: list[str] | None) -> list[Recipe]:
    known = all_recipes()
    listed = names or [
        f"{method.info.id}-mini" for method in METHODS if method.trains and f"{method.info.id}-mini" in known
    ]
    return [find_recipe(known, name) for name in dict.fromkeys([BASE if names is None else names[0], *listed])]


def main(
    *,
    recipes: Annotated[list[str] | None, Parameter(name="--recipe", negative="")] = None,
    backbone: str = "resnet18",
    view_size: int = 96,
    batch_size: int = 64,
    precision: Literal["fp32", "bf16"] = "bf16",
    threads: int | None = None,
    device: str | None = None,
    rounds: int = 5,
    warmup: int = 2,
    steps: int = 10,
    memory: bool = True,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure the step time and memory of methods over MoCo v2 at equal settings.

    Example: python -m bench.benchmarks.method_overhead --view-size 96 --batch-size 128

    Parameters
    ----------
    recipes
        Recipes to compare, the first with all others (default: moco-v2-mini with the mini recipe of every method).
    backbone
        Backbone of all methods.
    view_size
        Side of their large views in pixels.
    batch_size
        Images per step.
    precision
        Precision of the forward pass.
    threads
        CPU threads (default: all cores).
    device
        cuda or cpu (default: cuda where there is one).
    rounds
        Number of turns of each method.
    warmup
        Steps of a turn before the clock runs.
    steps
        Steps of a turn that count.
    memory
        Also measure memory, in one process per method.
    as_json
        Print JSON.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    settings: dict[str, Any] = {"backbone": backbone, "view_size": view_size, "batch_size": batch_size}
    equal = [equalised(recipe, **settings, precision=precision) for recipe in _chosen(recipes)]
    if len(equal) < 2:
        raise BenchError("there is nothing to compare: name at least two recipes")
    with process_group(device) as process:
        about = machine(process.device, precision)
        options = {"rounds": rounds, "warmup": warmup, "steps": steps}
        rows = overhead(equal, process.device, **options, memory=memory)
    if as_json:
        print(json.dumps({"machine": about, **settings, **options, "methods": rows}, indent=2))
        return
    console = output()
    console.print(in_words(about), markup=False)
    console.print(f"{backbone}, batch {batch_size}, {rounds} rounds of {steps} steps")
    base = equal[0].name
    columns = ("", "views", "ms per step", f"time / {base}", "lowest", "highest", "MiB", "memory / it")
    table = Table(*columns, show_edge=False, pad_edge=False)
    for row in rows:
        ratio, peak = row["time_over_base"], row["peak_memory_mib"]
        table.add_row(
            row["recipe"],
            row["views"],
            f"{1000 * row['median_seconds']:.1f}",
            *[f"{ratio[key]:.3f}" for key in ("median", "low", "high")],
            "" if peak is None else f"{peak:.0f}",
            "" if peak is None else f"{row['memory_over_base']:.2f}",
        )
    console.print(table)


if __name__ == "__main__":
    start(lambda: run(main))
