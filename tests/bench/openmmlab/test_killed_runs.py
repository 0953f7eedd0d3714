"""Protocols of track paper, killed at ten random moments each: they end with the bits of a run that was not."""

import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import reduced_protocols
import reduced_segmentation
from augmented_voc import with_train_aug
from short_protocols import checkpoint, reference
from voc_0712 import with_voc2007

from bench.jobs import PRELOAD
from bench.openmmlab.runner import run_transfer
from bench.openmmlab.stored_weights import WEIGHTS
from bench.protocols import Protocol
from leaderboard.records import read_result_json

KILLS, ITERATIONS = 10, 24
REDUCED: dict[str, Callable[..., Protocol]] = {
    "paper_voc12aug_seg_fcn_d8_20k": reduced_segmentation.reduced,
    "paper_voc0712_det_c4_24k": reduced_protocols.reduced,
}
ROOTS = {"paper_voc12aug_seg_fcn_d8_20k": with_train_aug, "paper_voc0712_det_c4_24k": with_voc2007}


def execute(protocol_id: str, backbone: Path, data: Path, folder: Path, seconds: float) -> None:
    """A run in a process of its own; its result is in `result.json`."""
    import torch

    torch.set_num_threads(1)
    with (folder.with_suffix(".log")).open("a") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    protocol = REDUCED[protocol_id](protocol_id, iterations=ITERATIONS)
    result = run_transfer(protocol, backbone, data, reference(protocol), 0, folder, checkpoint_seconds=seconds)
    (folder / "result.json").write_text(result.to_json())


def start(*arguments: object) -> ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    process = context.Process(target=execute, args=arguments)
    process.start()
    return process


def iterations(folder: Path) -> int:
    """How many lines of losses there are."""
    file = folder / "losses.csv"
    return max(0, file.read_bytes().count(b"\n") - 1) if file.exists() else 0


def described(folder: Path) -> dict[str, Any]:
    """The result without times, and without the commit: somebody may make one while this runs."""
    result = read_result_json((folder / "result.json").read_bytes())
    times = dict.fromkeys(("finished_at", "wall_seconds", "seconds", "peak_memory_mib"), True)
    return result.model_dump(exclude={**times, "environment": {"code_commit"}})


@pytest.mark.slow
@pytest.mark.parametrize("protocol_id", REDUCED)
def test_ten_kills_change_no_bit(protocol_id: str, tiny_data: Path, tmp_path: Path) -> None:
    data = ROOTS[protocol_id](tiny_data, tmp_path / "data")
    inputs = (protocol_id, checkpoint(tmp_path / "work"), data)
    at_once = start(*inputs, tmp_path / "whole", 600.0)
    drawn = random.Random(protocol_id)
    killed = 0
    for number in range(KILLS):
        process = start(*inputs, tmp_path / "killed", 0.0)
        # each kill gets a little further; its moment lies anywhere in an iteration or the writing of a checkpoint
        while iterations(tmp_path / "killed") < 2 * number + 1 and process.is_alive():
            time.sleep(0.01)
        time.sleep(drawn.uniform(0, 1.5))
        process.kill()
        process.join()
        killed += process.exitcode == -9
    assert killed == KILLS
    last = start(*inputs, tmp_path / "killed", 0.0)
    for process in (last, at_once):
        process.join()
        assert process.exitcode == 0, (tmp_path / "killed.log").read_text()[-2000:]
    log = (tmp_path / "killed.log").read_text()
    assert log.count("continued: ") >= KILLS - 2 and "starts again" not in log
    for name in (WEIGHTS, "losses.csv", "shares.npz"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert described(tmp_path / "killed") == described(tmp_path / "whole")
