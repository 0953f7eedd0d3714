"""A protocol for a GPU that is too small for its batch: fewer images per iteration under the linear rule.

As detectron2 scales its schedules: with a k-th of the images per iteration, the learning rate is a k-th, and
iterations, milestones and warm-up are k times as many, so that as many images are seen. Momentum and weight decay stay.
(The rule: Goyal et al., arXiv 1706.02677, section 2.1.) Batch normalization sees fewer images, which no schedule
makes good: such a protocol is another one, with an id, a hash and a table of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from bench.errors import BenchError

SMALLEST: Final = 2
"""Images of a batch: with one alone, batch normalization has nothing to compare."""
_ID: Final = re.compile(r"(.+)_batch([1-9][0-9]{0,3})")


def smaller_id(protocol_id: str, batch: int) -> str:
    """The id of protocol `protocol_id` with `batch` images per iteration."""
    return f"{protocol_id}_batch{batch}"


def split_id(name: str) -> tuple[str, int | None]:
    """The id of the protocol itself, and the batch that `name` asks for; None: the protocol's own."""
    found = _ID.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def possible_batches(batch: int) -> list[int]:
    """The smaller batches, the largest first: those into which `batch` can be cut."""
    return [smaller for smaller in range(batch - 1, SMALLEST - 1, -1) if batch % smaller == 0]


def with_smaller_batch(config: Mapping[str, Any], batch: int) -> dict[str, Any]:
    """The config of a protocol that fine-tunes, with `batch` images per iteration.

    Raises:
        BenchError: its own batch cannot be cut into such batches, or it has a schedule that the rule does not cover.
    """
    header, plan = config["protocol"], config["protocol"]["plan"]
    own = plan["batch_size"]
    if batch not in possible_batches(own):
        possible = ", ".join(map(str, possible_batches(own))) or "none smaller"
        raise BenchError(f"{header['id']} has batches of {own}: a batch of {batch} is not possible, only {possible}")
    times = own // batch
    rates = {name: rate / times for name, rate in plan.items() if name.endswith("learning_rate")}
    smaller = {"batch_size": batch, "iterations": plan["iterations"] * times, **rates}
    optimizer = config["optim_wrapper"]["optimizer"]
    flag = f"batch {batch}"
    sweep = {"sweep": _in_smaller_batches(config["sweep"], times)} if "sweep" in config else {}
    return {
        **config,
        **sweep,
        "protocol": {
            **header,
            "id": smaller_id(header["id"], batch),
            "title": f"{header['title']}, {flag} instead of {own}",
            "short_title": f"{header['short_title']}, {flag}",
            "plan": {**plan, **smaller},
        },
        "train_dataloader": {**config["train_dataloader"], "batch_size": batch},
        "train_cfg": {**config["train_cfg"], "max_iters": smaller["iterations"]},
        "optim_wrapper": {**config["optim_wrapper"], "optimizer": {**optimizer, "lr": optimizer["lr"] / times}},
        "param_scheduler": [_longer(scheduler, times) for scheduler in config["param_scheduler"]],
    }


def describe(batch: int, own: int) -> str:
    """What the docstring of such a protocol says beyond that of the protocol itself."""
    return (
        f"SMALLER BATCH: everything above is said of batches of {own}. Here {batch} images per iteration, the learning "
        f"rate divided by {own // batch}, iterations, milestones and warm-up times {own // batch} (the linear rule); "
        "batch normalization sees fewer images. Results stand in a table of their own, beside no published value."
    )


def _in_smaller_batches(sweep: Mapping[str, Any], times: int) -> dict[str, Any]:
    """The section of a sweep whose runs have a `times`-th of the images per iteration."""
    rates = [rate / times for rate in sweep["learning_rates"]]
    return {**sweep, "learning_rates": rates, "iterations": sweep["iterations"] * times}


def _longer(scheduler: Mapping[str, Any], times: int) -> dict[str, Any]:
    """`scheduler` over `times` as many iterations."""
    longer = {**scheduler, "begin": scheduler["begin"] * times, "end": scheduler["end"] * times}
    match scheduler["type"]:
        case "LinearLR":  # complete at the iteration before its end
            longer["end"] = (scheduler["end"] - 1) * times + 1
        case "MultiStepLR":
            longer["milestones"] = [milestone * times for milestone in scheduler["milestones"]]
        case "PolyLR":
            longer["eta_min"] = scheduler["eta_min"] / times
        case "SteppedCosineLR":
            longer["every"] = scheduler["every"] * times
        case other:
            raise BenchError(f"no smaller batch: the linear rule is not written for the schedule {other}")
    return longer
