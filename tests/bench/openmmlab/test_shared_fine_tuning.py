"""One fine-tuning on several devices: the batches of one, statistics of the whole batch, bounds, and exact resume."""

import csv
from functools import partial
from pathlib import Path

import pytest
import torch
from short_protocols import checkpoint
from short_runs import ITERATIONS, fine_tune, make_runs
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from bench.environment import describe_environment
from bench.errors import BenchError
from bench.executors.base import LocalExecutor
from bench.gpus import Gpus
from bench.jobs import TransferRun
from bench.openmmlab.devices import share_statistics, whole
from bench.openmmlab.feed import Feed
from bench.openmmlab.guards import check_trained
from bench.openmmlab.stored_weights import WEIGHTS
from leaderboard.records import read_result_json


class Drawn(Dataset[tuple[int, float]]):
    """Images whose crop is a random number."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, torch.rand(()).item()


class Strided(Sampler[int]):
    """The order of one device, of which each takes every n-th image, as mmengine's samplers do."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()[self.rank :: self.world])


def batches(rank: int, world: int, first: int) -> list[set[tuple[int, float]]]:
    loader = DataLoader(
        Drawn(), batch_sampler=BatchSampler(Strided(rank, world), 4 // world, False), num_workers=1, collate_fn=set
    )
    feed = Feed(loader, seed=5, first=first, share=(rank, world))
    return [next(feed) for _ in range(4)]


def test_devices_have_the_images_and_crops_of_one() -> None:
    for first in (0, 2):
        one = batches(0, 1, first)
        assert [left | right for left, right in zip(batches(0, 2, first), batches(1, 2, first), strict=True)] == one


def test_groups_of_gpus() -> None:
    assert Gpus(("0", "1", "2", "GPU-5", "7"), True).in_groups(2) == ("0,1", "2,GPU-5")
    assert Gpus(("0", "1"), True).in_groups(1) == ("0", "1")
    assert Gpus((), True).in_groups(2) == ()
    with pytest.raises(BenchError, match="2 devices for a run: there are 1 GPUs here"):
        Gpus(("0",), True).in_groups(2)


def test_norms_of_the_whole_batch() -> None:
    norm = nn.SyncBatchNorm(3)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(norm, nn.ReLU()))
    keys = list(model.state_dict())
    share_statistics(model)
    assert list(model.state_dict()) == keys and model[1][0].weight is norm.weight
    check_trained(model, world=2)
    share_statistics(model)
    assert whole(model) is model
    with pytest.raises(BenchError, match="is not synchronised although 2 processes"):
        check_trained(nn.Sequential(nn.BatchNorm2d(3)), world=2)


def test_the_record_says_how_many() -> None:
    one, two = (describe_environment(torch.device("cpu"), "fp32", devices).device for devices in (1, 2))
    assert two == f"2 x {one}"


def losses(run: TransferRun) -> list[list[float]]:
    with (run.folder / "losses.csv").open() as file:
        return [[float(value) for value in row] for row in list(csv.reader(file))[1:]]


@pytest.mark.slow
def test_two_processes_are_near_to_one_and_continue_exactly(tiny_data: Path, tmp_path: Path) -> None:
    backbone = checkpoint(tmp_path / "work")
    runs = {}
    for name, devices, stops in (("one", 1, [None]), ("two", 2, [None]), ("stopped", 2, [3, None])):
        (run,) = make_runs(tmp_path / name, backbone, tiny_data, 1)
        for stop in stops:
            executor = LocalExecutor(1, threads=2, device="cpu", devices=devices)
            execute = partial(fine_tune, devices=devices, stop_after=stop)
            (outcome,) = executor.run_all([run], finished=lambda outcome: None, execute=execute)
            assert (outcome.failure is None) == (stop is None), outcome.failure
        runs[name] = run
    assert "which is saved in" in runs["stopped"].log.read_text() and "continued: " in runs["stopped"].log.read_text()
    for file in (WEIGHTS, "losses.csv"):
        assert (runs["stopped"].folder / file).read_bytes() == (runs["two"].folder / file).read_bytes()
    results = {name: read_result_json((run.folder / "result.json").read_bytes()) for name, run in runs.items()}
    assert results["stopped"].metrics == results["two"].metrics
    assert results["two"].environment.device == f"2 x {results['one'].environment.device}"
    assert results["two"].training == results["one"].training  # iterations, batch, images seen
    one, two = losses(runs["one"]), losses(runs["two"])
    assert len(one) == len(two) == ITERATIONS
    differences = [
        max(abs(a - b) / max(abs(a), 1e-9) for a, b in zip(x, y, strict=True)) for x, y in zip(one, two, strict=True)
    ]
    assert differences[0] < 1e-5, "the first iteration differs by more than the order of sums"
    assert max(differences[:4]) < 0.01, differences  # measured: 0.004
    assert max(differences) < 0.2, differences  # measured: 0.07, as docs/cluster.md says
