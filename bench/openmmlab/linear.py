"""The linear value of a trained segmenter: its last layer alone is learned anew, with labels.

As MaskDistill's code does it (wvangansbeke/MaskDistill, `linear_finetune.py`): everything before the classifier of each
cell is frozen and in evaluation mode; the classifier starts from N(0, .01) and zero biases and is trained by SGD with
momentum .9 and the plain cross entropy; the learning rate falls to a tenth at each milestone. Metrics are those of the
protocol's evaluation, as `linear_*`. A protocol asks for it by `linear = dict(...)`, see `LinearPlan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from bench.metrics.segmentation import IGNORE

SEED = 0
"""Seed of the classifier's weights, crops and order: the same in every run, so that stored weights give its values."""


@dataclass(frozen=True)
class LinearPlan:
    """What a protocol says in `linear`."""

    iterations: int
    learning_rate: float
    weight_decay: float
    milestones: tuple[int, ...]
    """Iterations at which the learning rate falls to a tenth."""
    train_dataloader: Mapping[str, Any]
    """Labeled images, in batches of mmengine's form."""
    test_evaluator: Mapping[str, Any]


def linear_metrics(config: Mapping[str, Any], model: Any, folder: Path) -> dict[str, float]:
    """`linear_*` of a `model` that was built and trained by `config`, whose classifier it replaces; or nothing.

    Nothing is written to `folder`, but mmengine's own files.
    """
    if "linear" not in config:
        return {}
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner, set_random_seed

    from bench.openmmlab.runner import make_runner

    plan = LinearPlan(**config["linear"])
    init_default_scope(config["default_scope"])
    set_random_seed(SEED)
    loader = Runner.build_dataloader(dict(plan.train_dataloader), seed=SEED)
    fit_classifier(model, loader, plan)
    changed = {**config, "test_evaluator": dict(plan.test_evaluator)}
    runner = make_runner(changed, model, SEED, folder, training=False)
    return {f"linear_{name}": float(value) for name, value in runner.test().items()}


def fit_classifier(model: Any, batches: Any, plan: LinearPlan) -> None:
    """Draw and train the 1 x 1 convolution `model.decode_head.conv_seg`; nothing else of the model changes."""
    model.eval()
    head = model.decode_head
    last: nn.Conv2d = head.conv_seg
    nn.init.normal_(last.weight, std=0.01)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    optimizer = torch.optim.SGD(last.parameters(), lr=plan.learning_rate, momentum=0.9, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(plan.milestones), gamma=0.1)
    for batch in islice(batches, plan.iterations):
        with torch.no_grad():
            data = model.data_preprocessor(batch, True)
            features = head._forward_feature(model.extract_feat(data["inputs"]))
        labels = torch.stack([sample.gt_sem_seg.data[0] for sample in data["data_samples"]]).long()
        logits = interpolate(
            last(features.float()), size=labels.shape[1:], mode="bilinear", align_corners=head.align_corners
        )
        optimizer.zero_grad()
        cross_entropy(logits, labels, ignore_index=IGNORE).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
