"""The feed: from any iteration on it gives what a feed that began at the start gives there."""

import os
import random
import signal
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler

from bench.errors import BenchError
from bench.openmmlab.checkpoints import random_states, restore_random_states
from bench.openmmlab.feed import Feed


class Draws(Dataset[Any]):
    """Each item is its index and one number from each of the three generators."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, random.random(), float(np.random.rand()), float(torch.rand(()))


class Endless(Sampler[int]):
    """Permutations without end, from a generator of its own."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed = length, seed

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield from torch.randperm(self.length, generator=generator).tolist()


class ByParity(BatchSampler):
    """Batches of even or of odd indices: how far the sampler is drawn depends on what it gave."""

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[int, list[int]] = {0: [], 1: []}
        for index in self.sampler:
            waiting[index % 2].append(index)
            if len(waiting[index % 2]) == self.batch_size:
                yield waiting[index % 2]
                waiting[index % 2] = []


def loader(seed: int, workers: int = 0, length: int = 7) -> DataLoader[Any]:
    batches = ByParity(Endless(length, seed), 2, drop_last=False)
    return DataLoader(Draws(length), batch_sampler=batches, num_workers=workers, collate_fn=list)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), first=st.integers(0, 12))
def test_order_and_draws_of_this_process_go_on(seed: int, first: int) -> None:
    torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
    feed = Feed(loader(seed), seed)
    before = list(islice(feed, first))
    states = random_states()
    after = list(islice(feed, 3))
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    again = Feed(loader(seed), seed, first)
    restore_random_states(states)
    assert list(islice(again, 3)) == after
    assert after[0] not in before


def test_with_loading_processes_draws_depend_on_the_position_alone() -> None:
    found = []
    for workers, first in ((1, 0), (2, 0), (2, 3)):
        feed = Feed(loader(5, workers), 5, first)
        found.append([next(feed) for _ in range(6 - first)])
        del feed
    assert found[0] == found[1]
    assert found[2] == found[0][3:]
    draws = [value for batch in found[0] for _, *values in batch for value in values]
    assert len(set(draws)) == len(draws)


def test_a_sampler_that_ends_begins_again() -> None:
    class Epochs(Sampler[int]):
        epoch = 0

        def __iter__(self) -> Iterator[int]:
            return iter(range(10 * self.epoch, 10 * self.epoch + 3))

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    def feed(first: int) -> Feed:
        batches = BatchSampler(Epochs(), 2, drop_last=False)
        return Feed(DataLoader(Draws(30), batch_sampler=batches, collate_fn=lambda b: [i for i, *_ in b]), 0, first)

    assert list(islice(feed(0), 5)) == [[0, 1], [2], [10, 11], [12], [20, 21]]
    assert list(islice(feed(3), 2)) == [[12], [20, 21]]


def test_images_that_fill_no_batch_are_said() -> None:
    batches = BatchSampler(RandomSampler(Draws(3)), 4, drop_last=True)
    with pytest.raises(BenchError, match="do not fill one batch"):
        next(Feed(DataLoader(Draws(3), batch_sampler=batches), 0))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sampler_that_was_drawn_from_is_refused(workers: int) -> None:
    """The original mmengine makes its iterator with the loop: then loading processes have read ahead already."""

    def loader() -> DataLoader[Any]:
        return DataLoader(Draws(9), 2, sampler=InfiniteSampler(Draws(9), seed=0), num_workers=workers, collate_fn=list)

    first = [index for index, *_ in next(Feed(loader(), 0))]
    begun = loader()
    early = iter(begun)
    if workers:
        with pytest.raises(BenchError, match="order would depend on the number of loading processes: install the one"):
            Feed(begun, 0)
    else:
        assert [index for index, *_ in next(Feed(begun, 0))] == first
    del early


def test_mmengines_loop_skips_nothing_of_it() -> None:
    feed, other = Feed(loader(1), 1, 2), Feed(loader(1), 1, 2)
    feed.skip_iter(2)
    assert [i for i, *_ in next(feed)] == [i for i, *_ in next(other)]


class Interrupts(Dataset[Any]):
    """Each item is loaded while Ctrl-C is pressed: the terminal sends it to loading processes, too."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return index


def test_ctrl_c_ends_no_loading_process() -> None:
    batches = BatchSampler(range(4), 2, drop_last=False)  # type: ignore[arg-type]
    initialized = torch.zeros(1).share_memory_()

    def initialize(worker: int) -> None:
        initialized.fill_(1)

    interrupted = DataLoader(
        Interrupts(), batch_sampler=batches, num_workers=1, collate_fn=list, worker_init_fn=initialize,
        multiprocessing_context="fork",
    )  # fmt: skip
    assert list(islice(Feed(interrupted, seed=0), 3)) == [[0, 1], [2, 3], [0, 1]]
    assert initialized.item() == 1
