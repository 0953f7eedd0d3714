"""The batches of a training run, from any iteration on exactly those of a run that was never interrupted.

mmengine's own resume draws the passed batches again or not at all, and the random draws of its pipelines depend on how
often a process was started. Here the order is drawn again from the seed without loading anything, which works for every
batch sampler, and the draws of the pipelines (crops, flips) are exact in one of two ways:

* without loading processes they come from this process's generators, whose states the checkpoint holds;
* with loading processes they are a function of the seed and of the image's position in the run, so that neither the
  number of these processes nor what each of them has done before plays a part.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import random
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from bench.errors import BenchError
from bench.fine_tuning import installation


class Feed:
    """An endless iterator over the batches of `loader`, from iteration `first` (counted from 0) on.

    `loader` must be new: nothing may have been drawn from its sampler. Takes the place of the iterator that mmengine's
    loop makes of it. Of several devices each has its `share`, (its number, their number), of every batch: the loader's
    sampler leaves out the images of the others, and the positions are those of the whole.

    Raises:
        BenchError: something was drawn, so that the order would depend on how far loading processes read ahead.
    """

    def __init__(self, loader: DataLoader[Any], seed: int, first: int = 0, share: tuple[int, int] = (0, 1)) -> None:
        _require_new(loader)
        keyed = loader.num_workers > 0
        dataset: Dataset[Any] = _Keyed(loader.dataset, seed) if keyed else loader.dataset
        self._batches = iter(
            DataLoader(
                dataset,
                batch_sampler=_Batches(loader.batch_sampler, first, share, keyed=keyed),  # type: ignore[arg-type]
                num_workers=loader.num_workers,
                collate_fn=loader.collate_fn,
                pin_memory=loader.pin_memory,
                timeout=loader.timeout,
                worker_init_fn=partial(_begin, loader.worker_init_fn),
                multiprocessing_context=loader.multiprocessing_context,
                prefetch_factor=loader.prefetch_factor,
            )
        )

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._batches)

    def skip_iter(self, iterations: int) -> None:
        """Do nothing: mmengine's loop calls this when it continues, but the feed already begins where it should."""


def _require_new(loader: DataLoader[Any]) -> None:
    """Refuse a sampler of mmengine, whose stream of indices goes on where it is, if that has begun."""
    indices = getattr(getattr(loader.batch_sampler, "sampler", None), "indices", None)
    if inspect.isgenerator(indices) and inspect.getgeneratorstate(indices) != inspect.GEN_CREATED:
        raise BenchError(
            "the installed mmengine draws training images before the training begins, so that their order would depend "
            f"on the number of loading processes: install the one that DenseBench is tested with\n{installation()}"
        )


def _begin(initialize: Callable[[int], None] | None, worker: int) -> None:
    """A loading process begins: the terminal's Ctrl-C is for the run, which has to finish its iteration."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if initialize is not None:
        initialize(worker)


class _Batches(Sampler[list[Any]]):
    """The batches of a batch sampler without end, from the `first` on; `keyed` ones hold (index, position)."""

    def __init__(self, batches: Iterable[list[int]], first: int, share: tuple[int, int], *, keyed: bool) -> None:
        self.batches, self.first, self.share, self.keyed = batches, first, share, keyed

    def __iter__(self) -> Iterator[list[Any]]:
        position, (own, devices) = 0, self.share
        for number, batch in enumerate(self._endless()):
            if number >= self.first:
                places = [own + devices * (position + k) for k in range(len(batch))]
                yield list(zip(batch, places, strict=True)) if self.keyed else batch
            position += len(batch)

    def _endless(self) -> Iterator[list[int]]:
        set_epoch = getattr(getattr(self.batches, "sampler", None), "set_epoch", None)
        for epoch in itertools.count():
            if set_epoch is not None:
                set_epoch(epoch)
            empty = True
            for batch in self.batches:
                empty = False
                yield batch
            if empty:
                raise BenchError("the training images do not fill one batch: use more images, or smaller batches")


class _Keyed(Dataset[Any]):
    """Draws of the pipelines as a function of (seed, position): for loading processes, whose generators it sets."""

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        index, position = key
        drawn = int.from_bytes(hashlib.sha256(f"{self.seed}/{position}".encode()).digest()[:8], "big")
        random.seed(drawn)
        np.random.seed(drawn % 2**32)  # the generator that the libraries' transforms draw from
        torch.manual_seed(drawn)
        return self.dataset[index]
