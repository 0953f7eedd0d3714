"""Draws images of rare classes more often. Import after `prepare_openmmlab`."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch import Tensor
from torch.utils.data import Sampler


def repeat_factors(classes: Sequence[Collection[int]], threshold: float) -> Tensor:
    """How often each image is to be drawn in an epoch (N,), float64, at least 1.

    The factor of a class on a share f of the images is max(1, sqrt(threshold / f)), that of an image the largest of its
    classes (Gupta et al., CVPR 2019, arXiv 1908.03195v2, appendix B.2).

    Args:
        classes: the classes of each image.
        threshold: share of the images below which a class is rare.
    """
    counts = Counter(label for of_image in classes for label in set(of_image))
    factors = {label: max(1.0, math.sqrt(threshold * len(classes) / count)) for label, count in counts.items()}
    largest = [max((factors[label] for label in of_image), default=1.0) for of_image in classes]
    return torch.tensor(largest, dtype=torch.float64)


@DATA_SAMPLERS.register_module()
class RepeatFactorSampler(Sampler[int]):
    """An endless stream of images, shuffled epoch by epoch, each as often as its factor says.

    In every epoch the fraction of a factor is the probability of one more draw.

    Args:
        dataset: a data set whose `classes_of_images` gives the classes of each image.
        threshold: see :func:`repeat_factors`.
        seed: seed of the stream, which all processes share; each of N takes every N-th image of it.
    """

    def __init__(self, dataset: Any, threshold: float, seed: int) -> None:
        self.dataset = dataset  # a batch sampler asks it for the images' shapes
        self.factors = repeat_factors(dataset.classes_of_images(), threshold)
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        rank, world = get_dist_info()
        return itertools.islice(self._stream(), rank, None, world)

    def __len__(self) -> int:
        """Number of different images."""
        return len(self.factors)

    def _stream(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        whole = self.factors.floor()
        while True:
            more = torch.rand(len(whole), generator=generator, dtype=torch.float64) < self.factors - whole
            drawn = torch.arange(len(whole)).repeat_interleave((whole + more).long())
            yield from drawn[torch.randperm(len(drawn), generator=generator)].tolist()
