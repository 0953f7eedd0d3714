"""Devices, ranks that wait for rank 0, and the number of loading processes."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import gloo
import pytest
import torch
import torch.distributed as dist
from toy import processes_context

from pretrain.errors import PretrainError
from pretrain.run import processes
from pretrain.run.processes import Process, loader_workers, process_group


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """A machine that pretends to have four GPUs; the devices that were chosen."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return chosen


@pytest.mark.parametrize(
    ("asked", "local_rank", "got"),
    [
        ("cuda", None, "cuda:0"),
        ("cuda", "2", "cuda:2"),
        (None, "3", "cuda:3"),
        (None, None, "cuda:0"),
        ("cuda:1", "2", "cuda:1"),
        (torch.device("cuda"), "1", "cuda:1"),
    ],
)
def test_cuda_without_a_number_is_the_process_own_gpu(
    gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch, asked: Any, local_rank: str | None, got: str
) -> None:
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    with process_group(asked) as process:
        assert process.device == torch.device(got)
    assert gpus == [torch.device(got)]


def test_a_device_that_does_not_exist_is_an_error(gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "4")
    for asked, message in (
        ("cuda", r"cuda:4 does not exist: this machine shows 4 GPU\(s\)"),
        ("cuda:9", "cuda:9 does not exist"),
        ("mps", "mps is not supported: use cuda or cpu"),
        ("gpu", "'gpu' is not a device: use cuda, cuda:N or cpu"),
    ):
        with pytest.raises(PretrainError, match=message), process_group(asked):
            pass
    assert gpus == []
    with process_group("cpu") as process:
        assert process.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("cores", "local_world", "device", "workers"),
    [
        (16, 1, "cpu", 1),
        (16, 1, "cuda", 15),
        (64, 8, "cuda", 7),
        (2, 1, "cuda", 1),
        (4, 8, "cuda", 1),
        (224, 8, "cuda", 16),
    ],
)
def test_workers_share_the_cores(cores: int, local_world: int, device: str, workers: int) -> None:
    assert loader_workers(cores, local_world, device) == workers


def test_a_process_of_torchrun_counts_those_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "available_cores", lambda: 24)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert Process(torch.device("cuda"), world=8).loader_workers() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # two machines
    assert Process(torch.device("cuda"), world=8).loader_workers() == 5


def wait_for_rank_0(rank: int, world: int, folder: Path) -> None:
    """Rank 0 takes longer than the training group would wait, and then fails in two ways."""
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=0.5))
    with process_group("cpu") as process:

        def slow() -> str:
            time.sleep(2)
            return f"made by rank {rank}"

        assert process.on_main(slow) == "made by rank 0"

        def mendable() -> None:
            raise PretrainError("the disk is full: free space")

        def fault() -> None:
            raise KeyError("a fault")

        with pytest.raises(PretrainError, match=r"^the disk is full: free space$"):
            process.on_main(mendable)
        error, message = (
            (KeyError, "a fault") if rank == 0 else (PretrainError, "rank 0 failed with KeyError: 'a fault'")
        )
        with pytest.raises(error, match=message):
            process.on_main(fault)
        assert process.mean(torch.tensor([float(rank)])).item() == 0.5  # nothing was broken by that
        (folder / f"done{rank}").touch()


def test_the_others_wait_for_rank_0_as_long_as_it_takes(tmp_path: Path) -> None:
    gloo.run(wait_for_rank_0, 2, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("done*")) == ["done0", "done1"]


def lose_rank_0(rank: int, world: int, folder: Path) -> None:
    """Rank 0 is killed in the middle of what it does alone, once the other has joined the group."""
    joined = folder / "joined"
    with process_group("cpu") as process:
        if rank == 1:
            joined.touch()

        def die() -> None:
            while not joined.exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

        with pytest.raises(PretrainError, match="rank 1 stopped because another process of this run has ended"):
            process.on_main(die)


def test_the_others_end_when_rank_0_is_killed(tmp_path: Path) -> None:
    context = processes_context()
    ranks = [context.Process(target=gloo._process, args=(rank, lose_rank_0, 2, tmp_path)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [-signal.SIGKILL, 0]
