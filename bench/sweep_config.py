"""Configs of a sweep: the settings that a protocol of track fair chooses for each checkpoint, and the runs that choose.

A protocol that chooses declares the grid in its section `sweep`, so that its hash covers it: every checkpoint tries the
same settings. A run of the sweep has a protocol of its own, with another id and hash: the protocol's with one of the
settings, a shorter schedule of the same shape, and a part of the training images that is held out and evaluated in
place of the validation images, which no choice ever sees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal

from bench.errors import BenchError

Settings = dict[str, float]
"""`learning_rate` (its peak) and `weight_decay` (of all parameters but those whose decay the protocol scales)."""
LARGEST_SHARE: Final = 0.25
"""Largest share of the protocol's iterations that a run of its sweep may have."""
_ID: Final = re.compile(r"(.+)_lr[0-9.e-]+_wd[0-9.e-]+")


@dataclass(frozen=True)
class SweepPlan:
    """The section `sweep` of a protocol."""

    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    """With each of the learning rates."""
    iterations: int
    """Iterations of each run."""
    held_out: float
    """What is held out of training: a share (below 1), or a number (from 1 on) of images or folders."""
    held_out_by: Literal["image", "folder"]
    """What is held out as a whole: single images, or folders of images (the cities of Cityscapes)."""
    seed: int
    """Seed of each run; the protocol's own runs have others."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rates", tuple(self.learning_rates))  # written as lists
        object.__setattr__(self, "weight_decays", tuple(self.weight_decays))
        if not self.learning_rates or min(self.learning_rates) <= 0 or min(self.weight_decays, default=-1) < 0:
            raise ValueError("a sweep needs learning rates above 0 and weight decays from 0 on")
        if self.held_out <= 0 or self.held_out_by not in ("image", "folder"):
            raise ValueError("a sweep holds out a share or a number of images or folders")

    @property
    def grid(self) -> list[Settings]:
        """All settings that are tried, in their order."""
        settings = product(self.learning_rates, self.weight_decays)
        return [{"learning_rate": rate, "weight_decay": decay} for rate, decay in settings]


def read_sweep(config: Mapping[str, Any]) -> SweepPlan | None:
    """What a protocol's config says of its sweep; None where it chooses nothing.

    Raises:
        ValueError: it is not valid.
    """
    if "sweep" not in config:
        return None
    sweep, own = SweepPlan(**config["sweep"]), config["protocol"]["plan"]["iterations"]
    if not 0 < sweep.iterations <= LARGEST_SHARE * own:
        raise ValueError(f"a run of the sweep has 1 to {int(LARGEST_SHARE * own)} iterations, not {sweep.iterations}")
    return sweep


def trial_id(protocol_id: str, settings: Mapping[str, float]) -> str:
    """Id of the protocol that tries `settings` for protocol `protocol_id`."""
    return f"{protocol_id}_lr{settings['learning_rate']:g}_wd{settings['weight_decay']:g}"


def split_trial(name: str) -> str | None:
    """The id of the protocol for which `name` tries settings; None where `name` has no such ending."""
    found = _ID.fullmatch(name)
    return found[1] if found else None


def with_settings(config: Mapping[str, Any], settings: Mapping[str, float]) -> dict[str, Any]:
    """A protocol's config with other settings; all rates follow the peak of the backbone's in proportion.

    So the schedule keeps its shape, and a rate of the head its ratio to that of the backbone.
    """
    header, plan, wrapper = config["protocol"], config["protocol"]["plan"], config["optim_wrapper"]
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    times = rate / plan["learning_rate"]
    changed = {
        **{name: value * times for name, value in plan.items() if name.endswith("learning_rate")},
        "learning_rate": rate,
        "norm_weight_decay": decay * wrapper.get("paramwise_cfg", {}).get("norm_decay_mult", 1.0),
    }
    return {
        **config,
        "protocol": {**header, "plan": {**plan, **changed}},
        "optim_wrapper": {**wrapper, "optimizer": {**wrapper["optimizer"], "lr": rate, "weight_decay": decay}},
        "param_scheduler": [
            {**one, "eta_min": one["eta_min"] * times} if "eta_min" in one else one for one in config["param_scheduler"]
        ],
    }


def with_iterations(config: Mapping[str, Any], iterations: int) -> dict[str, Any]:
    """A protocol's config over another number of iterations, its schedule stretched or shortened with them.

    Raises:
        BenchError: it has a schedule whose length cannot be changed.
    """
    header, plan = config["protocol"], config["protocol"]["plan"]
    share = iterations / plan["iterations"]
    return {
        **config,
        "protocol": {**header, "plan": {**plan, "iterations": iterations}},
        "train_cfg": {**config["train_cfg"], "max_iters": iterations},
        "param_scheduler": [_with_length(one, share, iterations) for one in config["param_scheduler"]],
    }


def as_trial(config: Mapping[str, Any], settings: Mapping[str, float]) -> dict[str, Any]:
    """The config of the run of a sweep that tries `settings`, from that of the protocol for which it does.

    Raises:
        BenchError: the protocol has a schedule that cannot be shortened.
    """
    sweep = SweepPlan(**config["sweep"])
    tuned = with_settings({name: value for name, value in config.items() if name != "sweep"}, settings)
    tuned = with_iterations(tuned, sweep.iterations)
    header, plan = tuned["protocol"], tuned["protocol"]["plan"]
    text = f"lr {settings['learning_rate']:g}, wd {settings['weight_decay']:g}"
    held_out = {"held_out": sweep.held_out, "held_out_by": sweep.held_out_by}
    trained, evaluated = config["train_dataloader"], config["test_dataloader"]
    return {
        **tuned,
        "protocol": {
            **header,
            "id": trial_id(header["id"], settings),
            "title": f"{header['short_title']}, {text}, on held-out training images",
            "short_title": f"{header['short_title']}, {text}",
            "plan": {**plan, **held_out},
        },
        "trial": {"of": header["id"], "settings": dict(settings), "seed": sweep.seed},
        "train_dataloader": {**trained, "dataset": _without_held_out(trained["dataset"], held_out)},
        "test_dataloader": {
            **evaluated,
            "dataset": _held_out(trained["dataset"], evaluated["dataset"], held_out),
        },
        "test_evaluator": _on_held_out(config["test_evaluator"], trained["dataset"], sweep),
    }


def describe_trial(settings: Mapping[str, float]) -> str:
    """What the docstring of such a protocol says beyond that of the protocol itself."""
    return (
        f"RUN OF A SWEEP: with learning rate {settings['learning_rate']:g} and weight decay "
        f"{settings['weight_decay']:g}, over a part of the iterations, evaluated on training images that are held out. "
        "Its value chooses settings, and is never ranked."
    )


def _with_length(scheduler: Mapping[str, Any], share: float, iterations: int) -> Mapping[str, Any]:
    """`scheduler` over `iterations`, that `share` of its own; a warm-up, which large rates need, keeps its length."""
    match scheduler["type"]:
        case "LinearLR":
            return scheduler
        case "MultiStepLR":
            milestones = [round(milestone * share) for milestone in scheduler["milestones"]]
            return {**scheduler, "milestones": milestones, "end": iterations}
        case "PolyLR":
            return {**scheduler, "end": iterations}
        case other:
            raise BenchError(f"no sweep: how a run of another length follows the schedule {other} is not written")


def _without_held_out(dataset: Mapping[str, Any], held_out: Mapping[str, Any]) -> dict[str, Any]:
    """The training images that are not held out."""
    if "datasets" in dataset:
        return {**dataset, "datasets": [_without_held_out(part, held_out) for part in dataset["datasets"]]}
    return {**dataset, **held_out}


def _held_out(dataset: Mapping[str, Any], tested: Mapping[str, Any], held_out: Mapping[str, Any]) -> dict[str, Any]:
    """The training images that are held out, all of them, prepared as the validation images are."""
    if "datasets" in dataset:
        return {**dataset, "datasets": [_held_out(part, tested, held_out) for part in dataset["datasets"]]}
    files = {name: value for name, value in dataset.items() if name not in ("filter_cfg", "share", "fold")}
    as_tested = {name: tested[name] for name in ("pipeline", "test_mode") if name in tested}
    return {**files, **as_tested, **held_out, "evaluated": True}


def _on_held_out(evaluator: Mapping[str, Any], trained: Mapping[str, Any], sweep: SweepPlan) -> dict[str, Any]:
    """The metric; where it reads the ground truth itself, that of the training images that are held out."""
    if "ann_file" not in evaluator:
        return dict(evaluator)
    if sweep.held_out_by != "image":
        raise BenchError(f"no sweep: {evaluator['type']} holds out images, not folders")
    return {**evaluator, "ann_file": f"run:data_root/{trained['ann_file']}", "held_out": sweep.held_out}
