"""Checks that a run was built and executed as card and protocol say: each guard reads objects, never the config.

They protect against errors that do occur: a preprocessor silently replaced by its default, a frozen stem, milestones
that are never reached, a detector loaded over the checkpoint. Each guard raises :class:`BenchError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isclose
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.datasets.shares import hold_out, take_share_of_each
from bench.errors import BenchError
from bench.protocols import TrainingPlan
from leaderboard.records import Card
from pretrain.nets.batchnorm import SynchronisedBatchNorm

SYNCHRONISED = (nn.SyncBatchNorm, SynchronisedBatchNorm)
"""Batch norms whose statistics are those of all devices."""


def _alike(applied: float, expected: float) -> bool:
    """Whether two values are equal up to the rounding of single precision, for pixel values up to 255."""
    return isclose(applied, expected, abs_tol=1e-3)


def check_preprocessor(preprocessor: nn.Module, card: Card) -> None:
    """Check that the built model applies the card's mean, standard deviation and channel order."""
    for name in ("mean", "std"):
        applied = getattr(preprocessor, name, torch.empty(0)).flatten().tolist()
        expected = [255 * v for v in getattr(card, name)]
        if len(applied) != len(expected) or not all(map(_alike, applied, expected)):
            used, said = ([round(v, 3) for v in values] for values in (applied, expected))
            raise BenchError(f"the built model normalises with {name} {used or 'nothing'}, the card says {said}")
    order = "RGB" if getattr(preprocessor, "_channel_conversion", False) else "BGR"
    if order != card.color_order:
        raise BenchError(f"the built model feeds {order} images, the card says {card.color_order}")


def check_trained(model: nn.Module, world: int = 1, what: str = "model") -> None:
    """Check that every layer is trained, and every batch norm in training mode and synchronized over `world` processes.

    Call it with the model in training mode, so that it reads what the first iteration will do.
    """
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if frozen:
        raise BenchError(
            f"{len(frozen)} {what} parameters are frozen, first {frozen[0]}: the protocol trains all layers"
        )
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    still = [name for name, module in norms.items() if not module.training or not module.track_running_stats]
    if still or getattr(model, "norm_eval", False):
        raise BenchError(
            f"batch normalisation of the {what} uses fixed statistics in training ({(still or ['norm_eval'])[0]})"
        )
    single = [name for name, module in norms.items() if world > 1 and not isinstance(module, SYNCHRONISED)]
    if single:
        raise BenchError(f"{single[0]} is not synchronised although {world} processes share the batch")


def check_frozen(backbone: nn.Module) -> None:
    """Check that no layer of the backbone is trained, and that all are in evaluation mode, while the model trains."""
    trained = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    trained += [name for name, module in backbone.named_modules() if module.training]
    if trained:
        raise BenchError(f"the protocol freezes the backbone, but {len(trained)} parts train, first {trained[0]}")


def check_backbone(backbone: nn.Module, card: Card, world: int = 1, *, frozen: bool = False) -> None:
    """Check what :func:`check_trained` or :func:`check_frozen` does, and that stem and strides are the card's."""
    if frozen:
        check_frozen(backbone)
    else:
        check_trained(backbone, world, "backbone")
    stem = next((module for module in backbone.modules() if isinstance(module, nn.Conv2d)), None)
    if stem is None or "x".join(map(str, stem.kernel_size)) != card.stem:
        raise BenchError(f"the built backbone's stem is not the {card.stem} convolution that the card says")
    if getattr(backbone, "style", card.stride_style) != card.stride_style:
        raise BenchError(f"the built backbone strides in {backbone.style} style, the card says {card.stride_style}")


def check_segmenter(model: Any, plan: TrainingPlan) -> None:
    """Check that the head reads a map of the planned output stride, and the auxiliary loss has the planned weight.

    The stride is measured: the backbone is run once, in evaluation mode, which changes nothing in it.
    """
    if plan.output_stride is not None:
        side, training = 8 * plan.output_stride, model.training
        model.eval()
        with torch.no_grad():
            maps = model.extract_feat(torch.zeros(1, 3, side, side, device=next(model.parameters()).device))
        model.train(training)
        stride = side / maps[model.decode_head.in_index].shape[-1]
        if stride != plan.output_stride:
            raise BenchError(f"the head reads a map of stride {stride:g}, the protocol plans {plan.output_stride}")
    if plan.auxiliary_weight is not None:
        head = getattr(model, "auxiliary_head", None)
        weight = None if head is None else head.loss_decode.loss_weight
        if weight != plan.auxiliary_weight:
            built = "no auxiliary head" if head is None else f"an auxiliary loss of weight {weight}"
            raise BenchError(f"the built model has {built}, the protocol plans weight {plan.auxiliary_weight}")


def check_no_other_weights(model: nn.Module, load_from: str | None) -> None:
    """Check that only the checkpoint's backbone is loaded: no detector by the runner, no pretrained neck or head."""
    if load_from:
        raise BenchError(
            f"the runner would load {load_from!r} (load_from): only the checkpoint's backbone may be loaded"
        )
    for name, module in model.named_modules():
        rules = getattr(module, "init_cfg", None) or []
        for rule in [rules] if isinstance(rules, dict) else rules:
            if rule.get("type") == "Pretrained":
                raise BenchError(
                    f"{name or 'the model'} is initialised from {rule.get('checkpoint')!r}: heads start at random"
                )


def check_batch(dataloader: Any, plan: TrainingPlan, world: int = 1) -> None:
    """Check the planned number of images per iteration, over all processes."""
    sampler = dataloader.batch_sampler
    effective = world * int(dataloader.batch_size or getattr(sampler, "batch_size", 0))
    if effective != plan.batch_size:
        raise BenchError(
            f"the built loader gives {effective} images per iteration, the protocol plans {plan.batch_size}"
        )


def check_labels(dataset: Any, plan: TrainingPlan, fold: int) -> None:
    """Check that the built data set (or each of several) has the planned share of its listed images, of this fold.

    None of them is held out for the evaluation.
    """
    for part in getattr(dataset, "datasets", [dataset]):
        taken, listed = getattr(part, "taken", None), getattr(part, "listed", [])
        if taken is None:
            if plan.labels < 1 or plan.held_out:
                raise BenchError(f"{type(part).__name__} cannot be cut to a part of its images")
            continue
        held = set(hold_out(part.units, plan.held_out)) if plan.held_out else set()
        left = [i for i in range(len(listed)) if i not in held]
        expected, groups = [listed[i] for i in left], [part.groups[i] for i in left]
        if plan.labels < 1:
            expected = [expected[i] for i in take_share_of_each(expected, groups, plan.labels, fold)]
        if taken != expected:
            raise BenchError(
                f"the built data set has {len(taken)} of {len(listed)} images, the protocol plans "
                f"{plan.labels:.0%} of {len(listed) - len(held)}, {len(expected)} of fold {fold}"
            )


def check_schedule(
    max_iterations: int, optimizer: torch.optim.Optimizer, schedulers: Iterable[Any], plan: TrainingPlan
) -> None:
    """Check the number of iterations, that milestones come before the last one, and the rates: one of all layers, or
    one of the backbone and one of the head (`check_head_rate` looks which layers have which)."""
    if max_iterations != plan.iterations:
        raise BenchError(f"the loop will run {max_iterations} iterations, the protocol plans {plan.iterations}")
    for scheduler in schedulers:
        late = [m for m in getattr(scheduler, "milestones", ()) if m >= max_iterations]
        if late:
            raise BenchError(f"the learning rate drops at iteration {late[0]}, after the last one ({max_iterations})")
        if getattr(scheduler, "by_epoch", False) is not False:
            raise BenchError("a scheduler counts epochs, the loop counts iterations")
    rates = sorted({float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups})
    planned = sorted({plan.learning_rate, head_rate(plan)})
    if len(rates) != len(planned) or not all(map(isclose, rates, planned)):
        wanted = " and ".join(map(str, planned))
        raise BenchError(f"the optimizer starts from learning rates {rates}, the protocol plans {wanted}")


def head_rate(plan: TrainingPlan) -> float:
    """Peak learning rate of the head."""
    return plan.learning_rate if plan.head_learning_rate is None else plan.head_learning_rate


def check_head_rate(model: Any, optimizer: torch.optim.Optimizer, plan: TrainingPlan) -> None:
    """Check that the backbone's parameters start from the plan's rate and all others from that of the head.

    The first of the optimizer's groups must be of the backbone and the last of the head: their rates are recorded.
    """
    if plan.head_learning_rate is None:
        return
    own = {id(parameter) for parameter in model.backbone.parameters()}
    of_backbone = [{id(parameter) in own for parameter in group["params"]} for group in optimizer.param_groups]
    if of_backbone[0] != {True} or of_backbone[-1] != {False} or {True, False} in of_backbone:
        raise BenchError("the optimizer's groups do not begin with the backbone's and end with the head's alone")
    for group, part in zip(optimizer.param_groups, of_backbone, strict=True):
        rate, planned = group.get("initial_lr", group["lr"]), plan.learning_rate if True in part else head_rate(plan)
        if not isclose(rate, planned):
            what = "backbone" if True in part else "head"
            raise BenchError(f"parameters of the {what} start from learning rate {rate}, the protocol plans {planned}")


def check_weight_decay(model: nn.Module, optimizer: torch.optim.Optimizer, plan: TrainingPlan) -> None:
    """Check that every trainable parameter is optimized once, those of batch norms with the planned weight decay."""
    decay: dict[int, float] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            decay[id(parameter)] = float(group["weight_decay"])
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{module_name}.{name}"
            if not parameter.requires_grad:
                continue
            if id(parameter) not in decay:
                raise BenchError(f"{full} is not in the optimizer")
            if isinstance(module, (_BatchNorm, nn.LayerNorm)) and decay[id(parameter)] != plan.norm_weight_decay:
                raise BenchError(
                    f"the norm parameter {full} has weight decay {decay[id(parameter)]}, "
                    f"the protocol plans {plan.norm_weight_decay}"
                )


def check_changed(backbone: nn.Module, tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Check after training that the backbone has changed: each matrix of weights that has a momentum in the optimizer.

    `backbone` has the names of `tensors`, which are the checkpoint's. What no loss depends on, such as a class token
    that nothing reads, has no momentum and stays. Vectors may stay, too: steps of a small rate can be lost in the
    rounding of a few values near 1, and a run that has ended must not be lost for that.
    """
    parameters = dict(backbone.named_parameters())
    same = [name for name, value in parameters.items() if torch.equal(value.cpu(), tensors[name].to(value.dtype))]
    matrices = [name for name in same if parameters[name].dim() > 1]
    moved = [name for name in matrices if any(map(_nonzero, optimizer.state.get(parameters[name], {}).values()))]
    if moved or len(same) == len(parameters):
        raise BenchError(
            f"the backbone was trained, but {len(moved or same)} of its {len(parameters)} parameters are still the "
            f"checkpoint's, first {(moved or same)[0]}"
        )


def _nonzero(value: Any) -> bool:
    """Whether a part of an optimizer's state is a momentum that is not zero (a number counts steps)."""
    return isinstance(value, Tensor) and value.dim() > 0 and bool(value.any())


def check_executed(
    iterations: int, rates: list[float], plan: TrainingPlan, head_rates: Sequence[float] | None = None
) -> None:
    """Check after training the executed iterations, and the peak and end of `rates` (one per iteration).

    `head_rates` are those of the head, where the plan has a rate for it.
    """
    if iterations != plan.iterations or len(rates) != iterations:
        raise BenchError(f"{iterations} iterations were executed, the protocol plans {plan.iterations}")
    expected = [("peak", max(rates), plan.learning_rate), ("last", rates[-1], plan.final_learning_rate)]
    if head_rates is not None and plan.head_learning_rate is not None:
        last = plan.final_learning_rate * plan.head_learning_rate / plan.learning_rate
        expected += [("peak head", max(head_rates), plan.head_learning_rate), ("last head", head_rates[-1], last)]
    for what, used, planned in expected:
        if abs(used - planned) > 1e-3 * planned:
            raise BenchError(f"the {what} learning rate was {used:.6g}, the protocol plans {planned:.6g}")
