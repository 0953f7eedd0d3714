"""Explains the tensors that a file holds in addition to the chosen backbone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bench.checkpoints.choice import Choice, role
from bench.checkpoints.layouts import Candidate, prefixes_of

UNEXPLAINED = "backbone-like, not part of the architecture"
UNKNOWN = "unknown, beside the backbone's own"

_QUEUE = re.compile(r"(^|[._])queue")
_OPTIMIZER = re.compile(r"(^|_)(optim|scheduler|scaler|amp)")
"""Matches names of dictionaries or modules that hold an optimizer's state; not applied to the tensor's own name."""
_CLASSIFIER = re.compile(r"^(fc|classifier|last_linear|linear|logits)\.(weight|bias)$")
_HEAD = re.compile(
    r"(^|[._])(fc\d*|mlp\d*|head\w*|proj\w*|pred\w*|neck\w*|prototypes?\w*|classifier|decode\w*|last_linear)[._]"
)


@dataclass(frozen=True)
class LeftOver:
    """A group of tensors that the import does not use."""

    what: str
    names: tuple[str, ...]


def classify(names: Iterable[str], choice: Choice) -> tuple[LeftOver, ...]:
    """Group the tensors outside the backbone (full names) by what they are, in the order of the file.

    A tensor that lies where the backbone's own tensors lie, has a name like theirs and is not expected belongs to
    `UNEXPLAINED`: the network has a part that the architecture lacks, so it computes another function.
    """
    of_others, behind = _Others(choice), choice.chosen.nearest().behind
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_what(name, choice, of_others, behind), []).append(name)
    return tuple(LeftOver(what, tuple(members)) for what, members in groups.items())


class _Others:
    """The networks that were not chosen, found by the names of their tensors."""

    def __init__(self, choice: Choice) -> None:
        self._by_prefix: dict[str, Candidate] = {}
        self._by_name: dict[str, Candidate] = {}
        for other in choice.others:
            if not choice.chosen.full_prefix.startswith(other.full_prefix):
                self._by_prefix.setdefault(other.full_prefix, other)
            for name in other.sources.values():
                self._by_name.setdefault(name, other)

    def find(self, name: str) -> Candidate | None:
        """The innermost of these networks that contains `name`; None if there is none."""
        owner = self._by_name.get(name)
        for prefix in prefixes_of(name):
            if owner is not None and len(prefix) <= len(owner.full_prefix):
                return owner
            if prefix in self._by_prefix:
                return self._by_prefix[prefix]
        return owner


def _what(name: str, choice: Choice, of_others: _Others, behind: frozenset[str]) -> str:
    prefix = choice.chosen.full_prefix
    own = name[len(prefix) :] if name.startswith(prefix) else None
    if any(_OPTIMIZER.search(part) for part in name.split(".")[:-1]):
        return "optimizer state"
    other = of_others.find(name)
    if other is not None:
        return f"another network ({role(other)}, {other.label})"
    if own is not None and _CLASSIFIER.match(own):
        return "classifier"
    family, renamed = choice.chosen.family, choice.chosen.layout.exported_name(own) if own is not None else None
    if renamed in behind:
        return "the classifier and what it alone reads"
    if own is not None and family.unused and family.unused.search(own):
        return "for pretraining alone"
    if own is not None and (family.like_parts.match(own) or renamed):
        return UNEXPLAINED
    if _QUEUE.search(name):
        return "queue"
    if _HEAD.search(own if own is not None else name):
        return "projection, prediction or task head"
    return UNKNOWN if own is not None else "other modules"
