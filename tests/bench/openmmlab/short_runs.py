"""Fine-tuning runs of a few iterations, for executors that import them by this file's name."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from short_protocols import changed, reference, short

from bench.jobs import TransferRun
from bench.openmmlab.devices import on_devices
from bench.openmmlab.runner import run_transfer
from bench.protocols import Protocol

PROTOCOL, ITERATIONS = "mini_city_seg_fcn", 8


def make_runs(work: Path, backbone: Path, data: Path, count: int) -> list[TransferRun]:
    """Runs with the seeds 0 to `count` - 1."""
    dataset = reference(short(PROTOCOL))
    return [
        TransferRun(PROTOCOL, backbone, data, dataset, seed, work / f"seed{seed}", work / "results", f"{seed:016x}")
        for seed in range(count)
    ]


def lines(run: TransferRun) -> int:
    """Iterations of which there are losses."""
    file = run.folder / "losses.csv"
    return max(0, file.read_bytes().count(b"\n") - 1) if file.exists() else 0


def fine_tune(run: TransferRun, threads: int, devices: int | None = None, stop_after: int | None = None) -> None:
    """The run, saved after each iteration; its result is in `result.json`.

    With `devices` it is one that so many can share; with `stop_after` it is told to stop after so many iterations.
    """
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    protocol = short(PROTOCOL, ITERATIONS) if devices is None else keyed()
    inputs = (protocol, run.checkpoint, run.data_root, run.dataset, run.seed, run.folder)
    if stop_after is not None:
        threading.Thread(target=_stop, args=(run, stop_after), daemon=True).start()
    result = on_devices(devices or 1, threads, run_transfer, *inputs, checkpoint_seconds=0.0)
    (run.folder / "result.json").write_text(result.to_json())


def keyed() -> Protocol:
    """The protocol with batches of 4, a loading process as on a GPU, and no layer that draws."""

    def change(config: dict[str, Any]) -> None:
        config["protocol"]["plan"]["batch_size"] = config["train_dataloader"]["batch_size"] = 4
        config["train_dataloader"]["num_workers"] = 1
        for head in ("decode_head", "auxiliary_head"):
            if head in config["model"]:
                config["model"][head]["dropout_ratio"] = 0.0

    return changed(short(PROTOCOL, ITERATIONS), change)


def _stop(run: TransferRun, iterations: int) -> None:
    while lines(run) < iterations:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
