"""Where in a file the backbone lies: the naming style, the prefix, and which network when there are several.

Prefixes are found, not listed: whatever stands before `layer1.0.conv1.weight` is the prefix, so `module.encoder_q.`,
`backbone.` and one that nobody has thought of yet are all recognised. Only a different *naming* of the layers needs an
entry in `LAYOUTS`.

Several networks in one file are ranked by the words in their prefix: the trained network (`q`, `query`, `online`,
`student`) first, then an unmarked one, then the momentum copy (`k`, `key`, `momentum`, `target`, `teacher`, `ema`).
The caller may name another prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.checkpoints.architectures import nearest, optional
from bench.checkpoints.containers import Leaf
from bench.errors import BenchError


@dataclass(frozen=True)
class Layout:
    """A naming style: `modules` maps its names of the six top modules to torchvision's."""

    name: str
    modules: Mapping[str, str]

    def find_prefixes(self, names: list[str]) -> list[str]:
        """Every text that stands before a residual block's convolution, in the order of the file."""
        stages = "|".join(re.escape(own) for own, common in self.modules.items() if common.startswith("layer"))
        block = re.compile(rf"((?:.*\.)?)(?:{stages})\.\d+\.conv[12]\.")
        return list(dict.fromkeys(match[1] for name in names if (match := block.match(name))))

    def to_torchvision(self, name: str) -> str | None:
        """The torchvision name of a tensor whose prefix was taken off; None if it is none of the backbone's modules."""
        module, _, rest = name.partition(".")
        return f"{self.modules[module]}.{rest}" if module in self.modules and rest else None


LAYOUTS: tuple[Layout, ...] = (
    Layout("torchvision names", {m: m for m in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")}),
    # nn.Sequential(*resnet.children()): lightly's backbones, the original R2O files. ReLU is 2, max-pooling 3.
    Layout(
        "positional names (nn.Sequential of a ResNet's children)",
        {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"},
    ),
)

_ONLINE = {"q", "query", "online", "student"}
_MOMENTUM = {"k", "key", "momentum", "target", "teacher", "ema", "swa", "averaged"}


@dataclass(frozen=True)
class Candidate:
    """One network of the file that looks like a ResNet."""

    layout: Layout
    full_prefix: str
    """Including the dictionaries around the state dict: `state_dict.module.encoder_q.`"""
    location: str
    """Those dictionaries alone: `state_dict`."""
    tensors: Mapping[str, Tensor]
    """By torchvision name: everything inside the backbone's six top modules, expected or not."""
    sources: Mapping[str, str]
    """Torchvision name to the tensor's full name in the file."""

    @property
    def prefix(self) -> str:
        """The prefix within the state dict: `module.encoder_q.`"""
        return self.full_prefix[len(self.location) + 1 :] if self.location else self.full_prefix

    @property
    def role(self) -> str:
        """`online`, `unmarked` or `momentum`, by the words in the prefix."""
        words = set(re.split(r"[._\d]+", self.full_prefix.lower()))
        if words & _MOMENTUM:
            return "momentum"
        return "online" if words & _ONLINE else "unmarked"

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"`{self.full_prefix}`" if self.full_prefix else "no prefix"

    def whole(self) -> bool:
        """Whether every tensor of the nearest architecture is there with the right shape."""
        shapes = nearest(self.tensors).shapes
        return all(
            optional(name) or (name in self.tensors and tuple(self.tensors[name].shape) == shape)
            for name, shape in shapes.items()
        )

    def equals(self, other: Candidate) -> bool:
        """Whether both hold bit-identical tensors (one network stored under two names)."""
        return self.tensors.keys() == other.tensors.keys() and all(
            torch.equal(tensor, other.tensors[name]) for name, tensor in self.tensors.items()
        )


def find_candidates(leaves: Mapping[str, Leaf]) -> list[Candidate]:
    """All ResNet-like networks of a file; an empty list if there is none."""
    candidates = []
    names = list(leaves)
    for layout in LAYOUTS:
        for full_prefix in layout.find_prefixes(names):
            sources = {}
            for name in names:
                if name.startswith(full_prefix) and (common := layout.to_torchvision(name[len(full_prefix) :])):
                    sources[common] = name
            location = leaves[next(iter(sources.values()))].location
            if location and not full_prefix.startswith(f"{location}."):
                location = ""  # a dictionary a module: the path is part of the tensor names
            tensors = {common: leaves[name].tensor for common, name in sources.items()}
            candidates.append(Candidate(layout, full_prefix, location, tensors, sources))
    return candidates


@dataclass(frozen=True)
class Choice:
    """The network that is imported, and why."""

    chosen: Candidate
    others: tuple[Candidate, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def choose(candidates: list[Candidate], prefix: str | None) -> Choice:
    """Pick one of the networks; `prefix` (as it stands in the file, with or without final dot) overrides the rule.

    Whole networks go before incomplete ones, then the roles decide (see the module's docstring). Two different
    networks of the same rank, and an incomplete trained network beside a whole momentum copy, are problems: the file
    alone cannot say which one is meant.

    Raises:
        BenchError: no network, or several, have the given prefix.
    """
    if prefix is not None:
        return _choose_named(candidates, prefix)
    roles = ("online", "unmarked", "momentum")
    whole = {id(candidate): candidate.whole() for candidate in candidates}
    ranked = sorted(candidates, key=lambda c: (not whole[id(c)], roles.index(c.role), -len(c.tensors)))
    chosen, others = ranked[0], tuple(ranked[1:])
    notes, problems = [], []
    for other in others:
        if not whole[id(other)]:
            if whole[id(chosen)] and roles.index(other.role) < roles.index(chosen.role):
                problems.append(
                    f"the trained network {other.label} is incomplete while its momentum copy {chosen.label} is whole: "
                    f"the file may be damaged; to import the copy, say prefix={chosen.full_prefix!r}"
                )
        elif chosen.equals(other):
            notes.append(f"{other.label} holds the same weights as {chosen.label}")
        elif other.role == chosen.role:
            problems.append(
                f"{chosen.label} and {other.label} are two different networks and neither is marked as the trained "
                f"one: choose with prefix={chosen.full_prefix!r} or prefix={other.full_prefix!r}"
            )
        else:
            notes.append(
                f"{chosen.label} ({chosen.role}) was chosen before {other.label} ({other.role}); DINO and SlotCon "
                f"evaluate the momentum network: to take it, say prefix={other.full_prefix!r}"
            )
    return Choice(chosen, others, tuple(notes), tuple(problems))


def _choose_named(candidates: list[Candidate], prefix: str) -> Choice:
    wanted = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
    fitting = [c for c in candidates if c.full_prefix == wanted] or [c for c in candidates if c.prefix == wanted]
    known = ", ".join(repr(c.full_prefix) for c in candidates)
    if not fitting:
        raise BenchError(f"no network has the prefix {prefix!r}; the file has {known}")
    if len(fitting) > 1:
        raise BenchError(f"several networks have the prefix {prefix!r}; give one of {known}")
    others = tuple(candidate for candidate in candidates if candidate is not fitting[0])
    return Choice(fitting[0], others, (f"{fitting[0].label} was chosen by the caller",), ())
