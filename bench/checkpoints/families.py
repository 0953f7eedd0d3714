"""What the import must know about a family of networks: which member a file holds, and why a file does not fit."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from torch import Tensor

from bench.errors import BenchError
from pretrain.errors import PretrainError
from pretrain.nets.architectures import TimmArchitecture, find_architecture, parameter_count, tensor_shapes


@dataclass(frozen=True)
class Architecture:
    """One backbone: tensor names and shapes are those of the exported form, without a classifier."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of every tensor of the state dict, including BN statistics and counters, by name."""
    parameters: int
    """Number of learnable parameters."""
    behind: frozenset[str] = frozenset()
    """Names of tensors after the last feature map that a file may hold: the classifier and what only it uses."""


@cache
def architecture(name: str) -> Architecture:
    """The named backbone of `pretrain.nets.architectures`."""
    found = find_architecture(name)
    behind = found.behind if isinstance(found, TimmArchitecture) else frozenset()
    return Architecture(name, tensor_shapes(name), parameter_count(name), behind)


def architecture_of_timm(name: str) -> Architecture:
    """The named backbone of timm. Raises BenchError, which names it, if timm is not installed."""
    try:
        return architecture(name)
    except PretrainError as error:
        raise BenchError(f"this looks like {name}: {error}") from error


def optional(name: str) -> bool:
    """Whether a file may lack this tensor: no network here uses BN's counter of batches."""
    return name.endswith(".num_batches_tracked")


class Family(ABC):
    """A family of networks. Once a `Layout` has renamed their tensors, these have the names of the exported form."""

    name: ClassVar[str]
    """Name of a member in messages, e.g. `ResNet`."""
    like_parts: ClassVar[re.Pattern[str]]
    """Matches names (without prefix) of parts of the network: an unused tensor with such a name belongs to a part that
    the architecture lacks."""
    unused: ClassVar[re.Pattern[str] | None] = None
    """Matches names of tensors that lie among the network's but only serve pretraining; None if there are none."""
    not_counted: ClassVar[str] = ""
    """Text in parentheses that says which tensors a count of missing ones leaves out."""

    @abstractmethod
    def nearest(self, tensors: Mapping[str, Tensor]) -> Architecture:
        """The member that `tensors` fit best: with the fewest missing, unused or of the wrong shape."""

    @abstractmethod
    def stage(self, name: str) -> str:
        """The part of the network in which a tensor lies, for summaries, e.g. `stem` or `layer1`."""

    @abstractmethod
    def explain(
        self,
        tensors: Mapping[str, Tensor],
        siblings: Collection[str],
        expected: Architecture,
        missing: Collection[str],
        wrong: Mapping[str, tuple[int, ...]],
    ) -> list[str]:
        """What is different about the network, the most informative first; empty if only names and shapes differ.

        Args:
            tensors: the network's tensors by exported name.
            siblings: every name of the file that starts with the network's prefix, without that prefix.
            expected: the nearest architecture.
            missing: expected tensors that it lacks.
            wrong: tensors of another shape than expected, with the shape that the file has.
        """

    def has_all_blocks(self, tensors: Mapping[str, Tensor], expected: Architecture) -> bool:
        """Whether at least one tensor of every block is there: then missing tensors were lost one by one."""
        return {self.block(name) for name in tensors} >= {self.block(name) for name in expected.shapes}

    def block(self, name: str) -> str:
        """The block in which a tensor lies, or one common name for all tensors outside of blocks."""
        return self.stage(name)

    def is_member(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a network with these tensors (by exported name, some may be missing) can be one of the family."""
        return True

    def parts(self, name: str) -> tuple[str, ...]:
        """The tensors of a file that are joined to an exported one, in order; most are stored as a whole."""
        return (name,)

    def assemble(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The exported tensors, made from those that a file holds, given by their names after renaming."""
        return dict(found)

    def check_unused(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Problems that tensors show which the network does not use, those that `unused` matches, by name without
        prefix."""
        return []

    def undecided(self, expected: Architecture, method: str | None) -> list[str]:
        """Problems of a file of `method`, a name of `formats`, whose tensors fit two networks that are both usual."""
        return []

    def notes(self, tensors: Mapping[str, Tensor], expected: Architecture) -> list[str]:
        """Notes on what no tensor shows, so that the submitter must know or declare it."""
        return []


def input_channels(channels: int) -> str | None:
    """Why a network whose stem takes `channels` channels cannot use color images; None if it can."""
    if channels == 3:
        return None
    usual = {1: "grey images", 2: "Sobel gradients"}.get(channels, "something else than RGB")
    return f"the stem takes {channels} input channel(s) ({usual}); the benchmark feeds 3"
