"""Images per second of MoCo v2: the step alone, the loader alone, both, with each switch, and beside others."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench.benchmarks import pretrain_throughput
from bench.benchmarks.gpu_check.images import enlarged, repeated
from bench.benchmarks.gpu_check.settings import base_recipe, size
from bench.benchmarks.gpu_check.task import Task
from bench.benchmarks.pretrain_throughput import StepsOnDevice, fed_steps, fed_views
from bench.benchmarks.rounds import Contestant, Step, compare, measure
from bench.benchmarks.trainee import Trainee
from pretrain.data.batches import ImageSource, Loading, crop_batches, open_images
from pretrain.run.acceleration import PLAIN, Acceleration, compile_backbones
from pretrain.run.device_gaps import DeviceGaps
from pretrain.run.memory import peak_memory_mib

LOADER_SECONDS = 4.0
SWITCHES = {
    "cudnn_benchmark": Acceleration(cudnn_benchmark=True),
    "tf32": Acceleration(tf32=True),
}
"""Switches that may speed up the step alone."""


def throughput(task: Task) -> None:
    """The step alone with each switch, the loader alone, and the training loop end to end without and with prefetch."""
    with tempfile.TemporaryDirectory() as folder:
        source = _images(task, Path(folder))
        trainee = Trainee(base_recipe(task, size(task).batch), source, task.device, Path(folder))
        _step_alone(task, trainee, StepsOnDevice(trainee, source, task.workers))
        _loader_alone(task, trainee, source)
        _end_to_end(task, trainee, source)


def pipelines(task: Task) -> None:
    """Our pipeline over Pillow's and lightly's, at the same recipe."""
    with tempfile.TemporaryDirectory() as folder:
        source = _images(task, Path(folder))
        recipe = base_recipe(task, size(task).small_batch)
        # A loading process delivers whole batches: as many arrive together as there are processes.
        turns = {"rounds": 1, "warmup": task.workers, "steps": 2 * task.workers}
        found = pretrain_throughput.throughput(recipe, source, task.device, workers=task.workers, **turns)
    task.note(batch=recipe.batch_size, workers=task.workers, **found)
    for name, speed in found["median"].items():
        ratio = found["ours_over"].get(name)
        aim = pretrain_throughput.AIMS.get(name)
        over = "" if ratio is None else f"; ours over it {ratio['median']:.2f} (aim: {aim})"
        task.line(f"{name}: {speed:.0f} images/s{over}")
    for name, reason in found["left_out"].items():
        task.line(f"{name}: not compared: {reason}")


def compiled(task: Task) -> None:
    """The step alone before and after torch.compile, and how long compiling took."""
    with tempfile.TemporaryDirectory() as folder:
        source = _images(task, Path(folder))
        trainee = Trainee(base_recipe(task, size(task).batch), source, task.device, Path(folder))
        alone = StepsOnDevice(trainee, source, task.workers)
        before = _seconds(task, Contestant("plain", alone))
        task.note(plain_ms=1000 * before)
        task.line(f"plain: {1000 * before:.1f} ms per step; compiling ...")
        # The usual backend takes minutes on a CPU.
        compile_backbones(trainee.method, trainee.method.backbone, backend="eager" if task.tiny else "inductor")
        began = time.perf_counter()
        with alone() as step:
            step()
            float(next(trainee.method.parameters()).sum())  # waits for the device
        seconds = time.perf_counter() - began
        task.note(compile_seconds=seconds)
        task.line(f"compiled in {seconds:.0f} s")
        after = _seconds(task, Contestant("compiled", alone))
        task.note(compiled_ms=1000 * after, speed_up=before / after, peak_memory_mib=peak_memory_mib(task.device))
        task.line(f"compiled: {1000 * after:.1f} ms per step, {before / after:.2f} times as fast")


def _images(task: Task, folder: Path) -> ImageSource:
    """Files of ImageNet's size in `folder`, repeated to an epoch of many steps."""
    given, wanted = open_images(task.options.data), size(task)
    (folder / "images").mkdir()
    source = enlarged(given, folder / "images", count=wanted.images, longer_side=wanted.side)
    kilobytes = statistics.fmean(source.size(k) for k in range(len(source))) / 1000
    task.note(images={"files": len(source), "longer_side": wanted.side, "mean_kilobytes": kilobytes})
    return repeated(source, wanted.epoch)


def _seconds(task: Task, contestant: Contestant) -> float:
    settings = size(task)
    turns = {"rounds": settings.rounds, "warmup": settings.warmup, "steps": settings.steps}
    return statistics.median(measure([contestant], task.device, **turns)[contestant.name])


def _step_alone(task: Task, trainee: Trainee, alone: StepsOnDevice) -> None:
    settings, recipe = size(task), trainee.recipe
    # Once without the switches, so that the peak is that of the plain step.
    plain = _seconds(task, Contestant("plain", alone))
    views = " + ".join(str(spec.size) for spec in trainee.method.plan.specs)
    task.note(
        recipe=f"{recipe.name}, {recipe.backbone}, batch {recipe.batch_size}, views {views} px, {recipe.precision}",
        step_images_per_second=recipe.batch_size / plain,
        step_ms=1000 * plain,
        peak_memory_mib=peak_memory_mib(task.device),
    )
    task.line(f"{recipe.backbone}, batch {recipe.batch_size}, views {views} px, {recipe.precision}")
    speed = recipe.batch_size / plain
    task.line(f"step alone: {speed:.0f} images/s, {1000 * plain:.1f} ms, {peak_memory_mib(task.device):.0f} MiB")
    contestants = [Contestant("plain", alone), *(Contestant(k, alone.under(v)) for k, v in SWITCHES.items())]
    turns = {"rounds": settings.rounds, "warmup": settings.warmup, "steps": settings.steps}
    seconds = measure(contestants, task.device, **turns)
    ratios = {name: asdict(compare(seconds["plain"], seconds[name])) for name in SWITCHES}
    task.note(switches_speed_up=ratios)
    for name, ratio in ratios.items():
        task.line(f"  with {name}: {ratio['median']:.3f} times as fast ({ratio['low']:.3f} to {ratio['high']:.3f})")


def _loader_alone(task: Task, trainee: Trainee, source: ImageSource) -> None:
    """Decoding and cropping without a device, then also the copy and the colour operations."""
    workers = task.workers
    loading = Loading(trainee.recipe.batch_size, workers=workers, pin=task.device.type == "cuda")
    crops = crop_batches(source, trainee.method.plan, loading)
    fed = fed_views(trainee, source, workers)
    decoded = _rate(task, (len(batch[0].image_id) for batch in crops))
    del crops
    with closing(fed):
        finished = _rate(task, (len(views[0].image_id) for views, _ in fed))
    task.note(loader_images_per_second=decoded, finished_images_per_second=finished, workers=workers)
    task.line(f"loader alone, {workers} processes: {decoded:.0f} images/s; with copy and colours: {finished:.0f}")


def _rate(task: Task, batches: Iterator[int]) -> float:
    """Images per second, after the batches that the processes hold ready have been taken."""
    for _ in range(2 * task.workers + 1):
        next(batches)
    _wait(task)
    images, began = 0, time.perf_counter()
    while time.perf_counter() - began < (0.2 if task.tiny else LOADER_SECONDS):
        try:
            images += next(batches)
        except StopIteration:
            break
    _wait(task)
    return images / (time.perf_counter() - began)


def _end_to_end(task: Task, trainee: Trainee, source: ImageSource) -> None:
    shares: dict[str, list[float]] = {"plain": [], "prefetch": []}
    warmup, steps = (1, 2) if task.tiny else (8, 24)

    def fed(name: str, acceleration: Acceleration) -> Contestant:
        @contextmanager
        def opened() -> Iterator[Step]:
            gaps, taken = DeviceGaps(task.device), 0
            with fed_steps(trainee, source, task.workers, acceleration, gaps) as step:

                def counted() -> None:
                    nonlocal taken
                    if taken == warmup:
                        gaps.close()
                    taken += 1
                    step()

                yield counted
                share = gaps.close()
                if share is not None:
                    shares[name].append(share)

        return Contestant(name, opened)

    contestants = [fed("plain", PLAIN), fed("prefetch", Acceleration(prefetch=True))]
    seconds = measure(contestants, task.device, rounds=1 if task.tiny else 2, warmup=warmup, steps=steps)
    found: dict[str, Any] = {
        name: {
            "images_per_second": trainee.recipe.batch_size / statistics.median(values),
            "gpu_between_steps": shares[name],
        }
        for name, values in seconds.items()
    }
    speed_up = asdict(compare(seconds["plain"], seconds["prefetch"]))
    task.note(end_to_end=found, prefetch_speed_up=speed_up, peak_memory_mib_end_to_end=peak_memory_mib(task.device))
    for name, one in found.items():
        idle = ", ".join(f"{share:.1%}" for share in one["gpu_between_steps"]) or "not measured on a CPU"
        task.line(f"end to end, {name}: {one['images_per_second']:.0f} images/s; GPU between steps: {idle}")


def _wait(task: Task) -> None:
    if task.device.type == "cuda":
        torch.cuda.synchronize(task.device)
