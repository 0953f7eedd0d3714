"""Two protocols of track paper at full size, for some iterations: images per second, memory, waiting, and GPU-hours."""

from __future__ import annotations

import copy
import gc
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.benchmarks.gpu_check.task import Task
from bench.datasets import generate
from bench.protocols import Protocol, TrainingPlan, load_protocol
from bench.rehearsal import SMALL, Rehearsed, scaled

if TYPE_CHECKING:
    from bench.openmmlab.measuring import Measured

MEASURED = {"paper_voc0712_det_c4_24k": 4_952, "paper_coco_mrcnn_fpn_1x_b": 5_000}
"""Number of validation images in the data set as published, by protocol."""
IMAGES, FEW_IMAGES = (24, 8), (8, 4)
"""Numbers of generated images: for training and for validation, in full and where the task is tiny."""
ZOOM = 4
"""Factor by which generated images are larger: 480 to 768 pixels, about as COCO's."""
PASSED, TIMED = 4, 24
"""Numbers of iterations: first those in which libraries choose algorithms and memory is taken, then those timed."""
MOST_SECONDS = 45.0
"""Most seconds of a protocol's training, and of its evaluation."""
TINY_SHARE, TINY_REGIONS = 8, 8
"""Factor by which images are smaller where the task is tiny, and regions of each that are then looked at."""


def protocols(task: Task) -> None:
    """Train and evaluate both for a moment with a ResNet-50, and compute what their whole schedules take."""
    from bench.checkpoints import random_backbone

    with tempfile.TemporaryDirectory() as folder:
        work, data = Path(folder), task.options.transfer_data
        if data is None:
            data = work / "data"
            train, val = FEW_IMAGES if task.tiny else IMAGES
            generate(data, train=train, val=val, pretrain=0, paper=True, zoom=1 if task.tiny else ZOOM)
        architecture = "resnet18" if task.tiny else "resnet50"
        checkpoint = random_backbone(architecture, seed=0, name=architecture, work=work)
        rows: list[dict[str, Any]] = []
        for name, images in MEASURED.items():
            protocol = load_protocol(name)
            if task.tiny:
                protocol = replace(protocol, config=reduced(protocol.config))
            measured = _measure(task, protocol, checkpoint, data, work / name)
            found = scaled(measured, protocol, images, _device_mib(task))
            rows.append(_figures(measured, found))
            task.note(rows=rows, computed_from="iterations x seconds per iteration, and the published validation "
                "images x seconds per image; without precise batch normalization and the metric")  # fmt: skip
            task.line(_in_words(rows[-1]))


def reduced(config: Mapping[str, Any]) -> dict[str, Any]:
    """A detector's config on small images, with a few regions in each: what a CPU does in seconds."""
    smaller: dict[str, Any] = {**config, "model": copy.deepcopy(config["model"])}
    smaller |= {loader: _on_small_images(config[loader]) for loader in ("train_dataloader", "test_dataloader")}
    training, testing = smaller["model"]["train_cfg"], smaller["model"]["test_cfg"]
    training["rcnn"]["sampler"]["num"] = TINY_REGIONS
    for proposals in (training["rpn_proposal"], testing["rpn"]):
        proposals["max_per_img"] = TINY_REGIONS
    return smaller


def _on_small_images(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {
            key: _divided(value) if key in ("scale", "scales") else _on_small_images(value)
            for key, value in part.items()
        }
    return type(part)(map(_on_small_images, part)) if isinstance(part, (list, tuple)) else part


def _divided(scale: Any) -> Any:
    return type(scale)(map(_divided, scale)) if isinstance(scale, (list, tuple)) else scale // TINY_SHARE


def _measure(task: Task, protocol: Protocol, checkpoint: Path, data: Path, folder: Path) -> Measured:
    """Measure with the full batch, or where the GPU is too small for it, with a small one."""
    import cv2
    import torch

    from bench.openmmlab.measuring import measure

    cv2.setNumThreads(0)
    _release()

    def with_batch(batch: int) -> Measured:
        passed, timed = (1, 1) if task.tiny else (PASSED, TIMED)
        return measure(
            protocol, checkpoint, data, folder, batch=batch, most_seconds=MOST_SECONDS, iterations=timed, passed=passed
        )

    if task.tiny:
        return with_batch(SMALL)
    try:
        return with_batch(_plan(protocol).batch_size)
    except torch.OutOfMemoryError:
        task.line(f"{protocol.id}: its batch of {_plan(protocol).batch_size} does not fit; a batch of {SMALL} instead")
    _release()
    return with_batch(SMALL)


def _release() -> None:
    """Give back the memory of what was measured before: a runner and its hooks refer to each other."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _figures(measured: Measured, found: Rehearsed) -> dict[str, Any]:
    return {
        **asdict(found),
        "extrapolated": found.extrapolated,
        "images_per_second": found.batch / found.iteration_seconds,
        "data_wait": measured.data_seconds / measured.iteration_seconds,
        "peak_memory_mib": max(measured.peak_mib, measured.evaluation_mib),
        "training_hours": found.training_hours,
        "evaluation_hours": found.evaluation_hours,
        "gpu_hours": found.hours,
    }


def _in_words(row: dict[str, Any]) -> str:
    """The row in words, where `~` marks what is extrapolated from a smaller batch."""
    about = "~" if row["extrapolated"] else ""
    batch = f"batch {row['measured_batch']}" + (f" of {row['batch']}" if row["extrapolated"] else "")
    hours = f"{about}{row['gpu_hours']:.1f} GPU-hours ({row['evaluation_hours']:.2f} of them evaluation)"
    return (
        f"{row['protocol']}: {about}{row['images_per_second']:.3g} images/s ({batch}), {row['data_wait']:.0%} of the "
        f"time waiting for data, {about}{row['memory_mib'] / 1024:.1f} GiB; the whole run: {hours}"
    )


def _plan(protocol: Protocol) -> TrainingPlan:
    assert isinstance(protocol.plan, TrainingPlan)
    return protocol.plan


def _device_mib(task: Task) -> float:
    """Memory of the GPU in MiB; for a CPU no limit is known here."""
    import torch

    if task.device.type != "cuda":
        return float("inf")
    return torch.cuda.get_device_properties(task.device).total_memory / 2**20
