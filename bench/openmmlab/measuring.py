"""A few iterations and a few evaluated images of a protocol, to know what the whole will take."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.heads import pretrained_head
from bench.openmmlab.build import build_model
from bench.openmmlab.loading_errors import plain_loading_errors
from bench.openmmlab.precision import use_bf16
from bench.openmmlab.prepare import prepare_openmmlab
from bench.openmmlab.runner import make_runner, write_config
from bench.protocols import Protocol, TrainingPlan
from pretrain.exported import read_exported
from pretrain.run.memory import peak_memory_mib

ITERATIONS, IMAGES = 3, 8
"""Numbers of iterations and images that are timed by default, after one iteration or batch that is not counted."""


@dataclass(frozen=True)
class Measured:
    """What was measured with a batch of `batch` images."""

    batch: int
    iteration_seconds: float
    """Mean time in seconds of an iteration with its data, the first left out."""
    data_seconds: float
    """Mean part of an iteration's time that was spent waiting for data, in seconds."""
    image_seconds: float
    """Mean time in seconds to evaluate an image with its data, without what the metric computes at the end."""
    before_mib: float
    """Memory of this process before the first iteration."""
    peak_mib: float
    fixed_mib: float
    """Memory that training adds whatever the batch: gradients, and the optimizer's state."""
    evaluation_mib: float
    """Peak memory at the end, the evaluation included."""
    weights_bytes: int
    """Size of `weights.safetensors` in bytes."""
    checkpoint_bytes: int
    """Size in bytes of weights and optimizer in `checkpoint.pt`."""


@plain_loading_errors()
def measure(
    protocol: Protocol,
    checkpoint: Path,
    data_root: Path,
    folder: Path,
    *,
    batch: int,
    most_seconds: float,
    iterations: int = ITERATIONS,
    passed: int = 1,
) -> Measured:
    """Build `protocol` as a run does, under its guards, and train and evaluate for a moment with `batch` images.

    `iterations` are timed, after `passed` more. Training and evaluation end after `most_seconds` each, whatever was
    timed until then, but not before one iteration and one batch were. Nothing is stored but the config. Where loading
    processes prepare batches ahead, the first ones are there already, and a training that waits for data is slower than
    it seems.

    Raises:
        BenchError: as `run_transfer`.
        torch.OutOfMemoryError: the GPU is too small for the batch.
    """
    plan = protocol.plan
    assert isinstance(plan, TrainingPlan)
    prepare_openmmlab()
    from bench.openmmlab.hooks import Executed, GuardHook, RecordHook, RehearsalHook, RehearsedError

    backbone = read_exported(checkpoint)
    card, tensors = backbone.card, dict(backbone.tensors)
    config = write_config(protocol, card, data_root, folder)
    config["train_dataloader"]["batch_size"] = batch
    head = pretrained_head(protocol, checkpoint)
    model = build_model(config, tensors, seed=0, head=head)
    runner = make_runner(config, model, 0, folder, training=True)
    device = next(model.parameters()).device
    use_bf16(model, config["bf16_modules"], device)
    record = Executed()
    rehearsal = RehearsalHook(record, iterations, most_seconds, passed=passed)
    runner.register_hook(GuardHook(replace(plan, batch_size=batch), card, tensors, record, head=head))
    runner.register_hook(RecordHook(record))
    runner.register_hook(rehearsal)
    before = peak_memory_mib(device)
    with suppress(RehearsedError):
        runner.train()
    trained = peak_memory_mib(device)
    optimizer = _bytes(runner.optim_wrapper.state_dict())
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    image_seconds = _evaluate(runner, most_seconds)
    return Measured(
        batch=batch,
        iteration_seconds=rehearsal.seconds,
        data_seconds=rehearsal.data_seconds,
        image_seconds=image_seconds,
        before_mib=before,
        peak_mib=trained,
        fixed_mib=(parameters + optimizer) / 2**20,
        evaluation_mib=peak_memory_mib(device),
        weights_bytes=parameters // 2 + buffers,
        checkpoint_bytes=parameters + buffers + optimizer,
    )


def _evaluate(runner: Any, most_seconds: float) -> float:
    """Seconds per image; the first batch is left out where there are several."""
    loop, timed, images = runner.test_loop, 0.0, 0
    runner.model.eval()
    opened = time.perf_counter()
    for number, batch, seconds in _timed_batches(loop):
        if number or len(loop.dataloader) == 1:
            timed, images = timed + seconds, images + len(batch["inputs"])
        if images and (images >= IMAGES or time.perf_counter() - opened > most_seconds):
            break
    return timed / images


def _timed_batches(loop: Any) -> Iterator[tuple[int, Any, float]]:
    batches = iter(loop.dataloader)
    for number in itertools.count():
        started = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        loop.run_iter(number, batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        yield number, batch, time.perf_counter() - started


def _bytes(value: Any) -> int:
    """Size in bytes of all tensors in a state."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, (list, tuple)) else 0
