"""A user's config against a protocol: what departs from it, and which published values it may stand beside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.audit.aspects import ASPECTS, Facts
from bench.audit.detectron2 import detectron2_facts
from bench.audit.openmmlab import openmmlab_facts
from bench.audit.reading import UserConfig
from bench.audit.words import DATA_SETS, NO_SPLIT
from bench.errors import BenchError
from bench.protocols import Protocol, TrainingPlan

NEAR = 0.03
"""Share within which iterations are alike: 12 epochs of COCO are 87,960 iterations, detectron2's 1x is 90,000."""
_COUNTED = ("iterations", "schedule", "warm-up")


@dataclass(frozen=True)
class Deviation:
    """One aspect in which the config departs from the protocol."""

    aspect: str
    protocol: str
    config: str
    decisive: bool
    """Whether results must not stand beside each other."""
    why: str


@dataclass(frozen=True)
class Audit:
    """The result of an audit."""

    protocol: str
    deviations: tuple[Deviation, ...]
    alike: tuple[str, ...]
    """Aspects in which both agree."""
    unknown: tuple[str, ...]
    """Aspects of the protocol of which the config says nothing."""
    notes: tuple[str, ...]
    other_data: bool
    """Whether the config trains on another data set than the protocol, not just on another split or share of it."""
    other_share: bool
    """Whether one trains on a share of the data set's labels that the other does not have."""

    @property
    def decisive(self) -> int:
        """Number of deviations that forbid putting a result beside the protocol's."""
        return sum(deviation.decisive for deviation in self.deviations)

    @property
    def comparable(self) -> bool:
        """Whether nothing that is known forbids putting a result beside the protocol's."""
        return not self.decisive

    @property
    def other_model(self) -> str | None:
        """The config's kind of detector or segmenter where the protocol has another one, else None."""
        return next((deviation.config for deviation in self.deviations if deviation.aspect == "model"), None)


def is_audited(protocol: Protocol) -> bool:
    """Whether configs are compared with `protocol`: it trains a detector or a segmenter."""
    return isinstance(protocol.plan, TrainingPlan) and protocol.task != "image classification"


def audited(protocols: Sequence[Protocol]) -> list[Protocol]:
    """Those of `protocols` with which configs are compared."""
    return [protocol for protocol in protocols if is_audited(protocol)]


def audit(user: UserConfig, protocols: Sequence[Protocol], *, gpus: int | None = None) -> list[Audit]:
    """Audits of `user`'s config, one per protocol, the nearest first.

    Those of the config's kind of detector or segmenter come first, of these those of its data set, then those of the
    same share of its labels (all, if the config does not say), then those with the fewest decisive deviations, then
    those with the fewest in all. A plain count would prefer what a config says little of.

    `gpus` is the number of processes that it is trained on, at least 1; if `None`, what its log or file name says.

    Raises:
        BenchError: the config says too little to be compared, one of `protocols` is not `is_audited`, or `gpus` is
            below 1.
    """
    if gpus is not None and gpus < 1:
        raise BenchError(f"--gpus is {gpus}: give 1 or more")
    others = [protocol.id for protocol in protocols if not is_audited(protocol)]
    if others:
        raise BenchError(f"audits are of detectors and segmenters that are trained: {others[0]} is another protocol")
    facts, notes = _facts(user, gpus)
    if not {"model", "training data"} & facts.keys():
        raise BenchError("the config names neither a model nor training data that an audit knows")
    found = [_against(protocol, facts, notes) for protocol in protocols]
    return sorted(found, key=_distance)


def _distance(one: Audit) -> tuple[bool, bool, bool, int, int, str]:
    other_model = one.other_model is not None
    return other_model, one.other_data, one.other_share, one.decisive, len(one.deviations), one.protocol


def _facts(user: UserConfig, gpus: int | None) -> tuple[Facts, tuple[str, ...]]:
    if user.of_detectron2:
        facts, notes = detectron2_facts(user.config, whole=user.whole)
        return facts, (*user.notes, *notes)
    processes, assumed = gpus or user.gpus, []
    loader = user.config.get("train_dataloader") or {}
    whole = (user.config.get("auto_scale_lr") or {}).get("base_batch_size")
    if processes is None and whole and loader.get("batch_size"):
        processes = max(1, whole // loader["batch_size"])
        assumed = [f"the number of GPUs is not known: the batch is that of auto_scale_lr, {whole} (say --gpus N)"]
    try:
        facts, notes = openmmlab_facts(user.config, gpus=processes or 1)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise BenchError(f"the config is not one that mmengine could build: {type(error).__name__} {error}") from error
    if processes is None:
        assumed = ["the number of GPUs is not known: say --gpus N, and batch and epochs are compared"]
        facts = {name: text for name, text in facts.items() if name not in ("batch", *_COUNTED)}
    return facts, (*user.notes, *assumed, *notes)


def _against(protocol: Protocol, facts: Facts, notes: tuple[str, ...]) -> Audit:
    wanted, _ = openmmlab_facts(protocol.config, gpus=1)
    theirs, ours = facts.get("training data", ""), wanted.get("training data", "")
    same = bool(_data_sets(theirs) & _data_sets(ours))
    if same and theirs.endswith(NO_SPLIT) and " + " not in theirs:  # it may be the protocol's split
        facts = {name: text for name, text in facts.items() if name != "training data"}
    deviations = [
        Deviation(name, wanted[name], facts[name], aspect.decisive, aspect.why)
        for name, aspect in ASPECTS.items()
        if name in wanted and name in facts and not _alike(name, wanted[name], facts[name])
    ]
    departing = {deviation.aspect for deviation in deviations}
    alike = tuple(name for name in ASPECTS if name in wanted and name in facts and name not in departing)
    unknown = tuple(name for name in ASPECTS if name in wanted and name not in facts)
    other_data, other_share = bool(theirs) and not same, _share(theirs) != _share(ours)
    return Audit(protocol.id, tuple(deviations), alike, unknown, notes, other_data, other_share)


def _data_sets(data: str) -> frozenset[str]:
    return frozenset(word for word in DATA_SETS if word in data.lower())


def _share(data: str) -> str:
    """The share of the labels in a text such as `10 % of COCO train2017`; empty for all of them."""
    return share if (share := data.partition(" % of ")[0]) != data else ""


def _alike(aspect: str, one: str, other: str) -> bool:
    if one == other:
        return True
    if aspect == "backbone":  # a protocol takes the checkpoint's depth
        return one == "the checkpoint's" and other.startswith("ResNe")
    if aspect not in _COUNTED:
        return False
    number = r"\d+(?:\.\d+)?"
    if re.sub(number, "#", one) != re.sub(number, "#", other):
        return False
    pairs = zip(re.findall(number, one), re.findall(number, other), strict=True)
    return all(abs(float(a) - float(b)) <= NEAR * float(a) for a, b in pairs)


def as_json(one: Audit) -> dict[str, Any]:
    """The audit as data."""
    return {
        "protocol": one.protocol,
        "comparable": one.comparable,
        "deviations": [vars(deviation) for deviation in one.deviations],
        "alike": list(one.alike),
        "unknown": list(one.unknown),
        "notes": list(one.notes),
    }
