"""Optimizer and schedule from the protocol's plan, so that each number is written once.

`plan` is `protocol["plan"]`: `batch_size`, `iterations`, `learning_rate`, `final_learning_rate`, `norm_weight_decay`,
and `head_learning_rate` where all but the backbone has its own rate.
"""

from collections.abc import Mapping
from typing import Any


def train_loop(plan: Mapping[str, Any]) -> dict[str, Any]:
    """All the plan's iterations, without evaluation in between."""
    return dict(type="IterBasedTrainLoop", max_iters=plan["iterations"])


def test_loop() -> dict[str, Any]:
    """One evaluation, after the last iteration."""
    return dict(type="TestLoop")


def sgd(
    plan: Mapping[str, Any], *, weight_decay: float, max_norm: float | None = None, nesterov: bool = False
) -> dict[str, Any]:
    """SGD with momentum .9 at the plan's learning rates.

    Args:
        plan: the plan of the protocol.
        weight_decay: weight decay of all parameters except those of batch normalization, which have the plan's.
        max_norm: gradients are scaled down to this L2 norm; None does not clip.
        nesterov: use Nesterov's momentum.
    """
    optimizer = dict(type="SGD", lr=plan["learning_rate"], momentum=0.9, weight_decay=weight_decay)
    if nesterov:
        optimizer["nesterov"] = True
    return _wrapped(optimizer, plan, max_norm)


def adamw(plan: Mapping[str, Any], *, weight_decay: float, max_norm: float) -> dict[str, Any]:
    """AdamW (PyTorch's betas) at the plan's learning rates; for `weight_decay` and `max_norm` see :func:`sgd`."""
    return _wrapped(dict(type="AdamW", lr=plan["learning_rate"], weight_decay=weight_decay), plan, max_norm)


def _wrapped(optimizer: dict[str, Any], plan: Mapping[str, Any], max_norm: float | None) -> dict[str, Any]:
    """`optimizer` with the plan's weight decay of norms and learning rate of the head."""
    wrapper: dict[str, Any] = dict(type="OptimWrapper", optimizer=optimizer)
    if plan["norm_weight_decay"] != optimizer["weight_decay"]:
        wrapper["paramwise_cfg"] = dict(norm_decay_mult=plan["norm_weight_decay"] / optimizer["weight_decay"])
    if "head_learning_rate" in plan:
        factor = plan["head_learning_rate"] / plan["learning_rate"]
        if "paramwise_cfg" in wrapper:  # mmengine's custom keys would take the norms' weight decay away
            wrapper["constructor"] = "HeadRate"
            wrapper["paramwise_cfg"]["head_lr_mult"] = factor
        else:
            wrapper["paramwise_cfg"] = dict(custom_keys={"head.": dict(lr_mult=factor)})
    if max_norm is not None:
        wrapper["clip_grad"] = dict(max_norm=max_norm, norm_type=2)
    return wrapper


def steps(plan: Mapping[str, Any], *, warm_up: int, warm_up_from: float, milestones: list[int]) -> list[dict[str, Any]]:
    """Linear warm-up, then a tenth of the learning rate from each milestone on.

    Args:
        plan: the plan of the protocol; its final learning rate must be the one after the last milestone.
        warm_up: number of iterations of the warm-up.
        warm_up_from: share of the learning rate at the first iteration.
        milestones: iterations at which the learning rate drops.
    """
    return [
        dict(type="LinearLR", start_factor=warm_up_from, by_epoch=False, begin=0, end=warm_up),
        *drops(plan, milestones=milestones),
    ]


def drops(plan: Mapping[str, Any], *, milestones: list[int], factor: float = 0.1) -> list[dict[str, Any]]:
    """The learning rate times `factor` from each milestone on, without warm-up. For the others see :func:`steps`."""
    return [
        dict(type="MultiStepLR", milestones=milestones, gamma=factor, by_epoch=False, begin=0, end=plan["iterations"]),
    ]


def poly(plan: Mapping[str, Any], *, power: float = 0.9) -> list[dict[str, Any]]:
    """Learning rate from the plan's first to its final one, along (1 - progress) ** `power`."""
    return [
        dict(
            type="PolyLR",
            power=power,
            eta_min=plan["final_learning_rate"],
            begin=0,
            end=plan["iterations"],
            by_epoch=False,
        ),
    ]


def cosine(plan: Mapping[str, Any], *, every: int) -> list[dict[str, Any]]:
    """Learning rate from the plan's to 0 along a cosine, with one rate for each `every` iterations.

    The plan's final learning rate is that of the last of them, which is above 0.
    """
    return [dict(type="SteppedCosineLR", every=every, by_epoch=False, begin=0, end=plan["iterations"])]
