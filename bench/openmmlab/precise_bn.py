"""Precise batch normalization: running statistics are recomputed with the final weights, as in detectron2.

Running statistics are averages over past iterations, whose weights have changed since. Where detectron2's `PreciseBN`
is on, as in MoCo's protocols and most that followed, they are replaced before the evaluation.
What is computed here is what fvcore's `update_bn_stats` computes: over some batches of training images, which pass the
training pipeline and the whole model in training mode (losses included, gradients not), the plain mean of the batches'
means, and the plain mean of the batches' unbiased variances. The variance between the means of batches is not included.
This applies to all batch normalizations of backbone, neck and heads that use the batch's statistics in training,
including synchronized ones.

A protocol asks for it in its plan, by the number of images: `precise_bn_images=3_200` is 200 batches of 16. The images
are those with which training would continue. A run does it after the last iteration and before weights are stored.

Unlike fvcore, a layer that runs several times in one iteration averages over all its runs; fvcore takes the last one.
No layer of our protocols does. One that never runs (a mask head without a mask in any batch) keeps its statistics.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from bench.errors import BenchError


@torch.no_grad()
def recompute_statistics(model: Any, batches: Iterable[Any], count: int) -> None:
    """Replace the running statistics of `model` (of mmengine) by means over the next `count` of `batches`.

    `batches` are inputs of `train_step`. The model stays in training mode; its weights are not changed, and its
    counters of batches then give the number of batches in the statistics.

    Raises:
        BenchError: there are fewer batches, a statistic is not finite, or a norm that ran has none.
    """
    model.train()
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    }
    momenta = {name: norm.momentum for name, norm in norms.items()}
    before = {name: [buffer.clone() for buffer in norm.buffers()] for name, norm in norms.items()}
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch then averages over all batches since the reset
    seen = 0
    for batch in islice(batches, count):
        model(**model.data_preprocessor(batch, True), mode="loss")
        seen += 1
    if seen < count:
        raise BenchError(f"batch-norm statistics are planned over {count} batches, the loader gave {seen}")
    for name, norm in norms.items():
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None
        norm.momentum = momenta[name]
        if not norm.num_batches_tracked:
            for buffer, value in zip(norm.buffers(), before[name], strict=True):
                buffer.copy_(value)
        elif not mean.any() and variance.eq(1).all():  # as the reset left them
            kind = type(norm).__name__
            raise BenchError(f"{name} ran but its batch-norm statistics are not computed: a fault of {kind}, report it")
        if not all(buffer.isfinite().all() for buffer in norm.buffers()):
            raise BenchError(f"the batch-norm statistics of {name} are not finite")
