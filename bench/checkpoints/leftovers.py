"""What the tensors are that a file holds beside the chosen backbone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bench.checkpoints.layouts import Choice

UNEXPLAINED = "backbone-like, not part of the architecture"

_QUEUE = re.compile(r"(^|[._])queue")
_OPTIMIZER = re.compile(r"(^|[._])(optim|optimizer|scheduler|lr_scheduler|scaler|amp)[^.]*\.")
_CLASSIFIER = re.compile(r"^(fc|classifier|last_linear|linear|logits)\.(weight|bias)$")
_HEAD = re.compile(
    r"(^|[._])(fc\d*|mlp\d*|head\w*|proj\w*|pred\w*|neck\w*|prototypes?\w*|classifier|decode\w*|last_linear)[._]"
)
_BACKBONE_LIKE = re.compile(
    r"^(conv\d*|bn\d*|norm\d*|gn\d*|stem|layer\d+|layers?|res\d|stages?|blocks?|downsample|se|attnpool|patch_embed)\."
)


@dataclass(frozen=True)
class LeftOver:
    """A group of tensors that the import does not use."""

    what: str
    names: tuple[str, ...]


def classify(names: Iterable[str], choice: Choice) -> tuple[LeftOver, ...]:
    """Group the tensors outside the backbone (full names) by what they are, in the order of the file.

    A tensor that sits where the backbone's own tensors sit, is named like them and is not expected goes to
    `UNEXPLAINED`: the network has a part that the architecture lacks, so it would not be the same function.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_what(name, choice), []).append(name)
    return tuple(LeftOver(what, tuple(members)) for what, members in groups.items())


def _what(name: str, choice: Choice) -> str:
    prefix = choice.chosen.full_prefix
    own = name[len(prefix) :] if name.startswith(prefix) else None
    if _OPTIMIZER.search(name):
        return "optimizer state"
    for other in sorted(choice.others, key=lambda c: -len(c.full_prefix)):
        inside = name.startswith(other.full_prefix) and not prefix.startswith(other.full_prefix)
        if inside or name in other.sources.values():
            return f"another network ({other.role}, {other.label})"
    if own is not None and _CLASSIFIER.match(own):
        return "classifier"
    if own is not None and (_BACKBONE_LIKE.match(own) or choice.chosen.layout.to_torchvision(own)):
        return UNEXPLAINED
    if _QUEUE.search(name):
        return "queue"
    if _HEAD.search(own if own is not None else name):
        return "projection, prediction or task head"
    return "other modules"
