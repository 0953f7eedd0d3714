"""What the import must know of a family of networks: which of its members a file holds, and why one does not fit."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from torch import Tensor

from pretrain.nets.architectures import TimmArchitecture, find_architecture, parameter_count, tensor_shapes


@dataclass(frozen=True)
class Architecture:
    """One backbone: tensor names and shapes are those of the exported form, without a classifier."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    """Every tensor of the state dict, BN statistics and counters among them."""
    parameters: int
    """Number of learnable parameters."""
    behind: frozenset[str] = frozenset()
    """Names of tensors that lie behind the last map and may stand in a file: the classifier and what it alone reads."""


@cache
def architecture(name: str) -> Architecture:
    """The named backbone of `pretrain.nets.architectures`."""
    found = find_architecture(name)
    behind = found.behind if isinstance(found, TimmArchitecture) else frozenset()
    return Architecture(name, tensor_shapes(name), parameter_count(name), behind)


def optional(name: str) -> bool:
    """Whether a file may lack this tensor: BN's counter of batches is not used by any network here."""
    return name.endswith(".num_batches_tracked")


class Family(ABC):
    """A family. Its members have their tensors under the exported form's names once a `Layout` has renamed them."""

    name: ClassVar[str]
    """As messages call one: `ResNet`."""
    like_parts: ClassVar[re.Pattern[str]]
    """Names (without prefix) of what would be a part of the network: a tensor that is left over and has such a name
    belongs to a part that the architecture lacks."""
    unused: ClassVar[re.Pattern[str] | None] = None
    """Names of what lies among the network's tensors and serves its pretraining alone."""
    not_counted: ClassVar[str] = ""
    """What a count of missing tensors leaves out, in parentheses."""

    @abstractmethod
    def nearest(self, tensors: Mapping[str, Tensor]) -> Architecture:
        """The member that `tensors` fill with the fewest missing, left over or misshapen."""

    @abstractmethod
    def stage(self, name: str) -> str:
        """The part of the network in which a tensor lies, for summaries: `stem`, `layer1`."""

    @abstractmethod
    def explain(
        self,
        tensors: Mapping[str, Tensor],
        siblings: Collection[str],
        expected: Architecture,
        missing: Collection[str],
        wrong: Mapping[str, tuple[int, ...]],
    ) -> list[str]:
        """What is different about the network, most telling first; empty if names and shapes alone differ.

        Args:
            tensors: of the network, by exported name.
            siblings: every name of the file that starts with the network's prefix, without that prefix.
            expected: the nearest architecture.
            missing: expected tensors that it lacks.
            wrong: tensors of another shape than expected, with the shape that the file has.
        """

    def has_all_blocks(self, tensors: Mapping[str, Tensor], expected: Architecture) -> bool:
        """Whether every part of the network is there at least in part: tensors that miss were lost one by one."""
        return {self.block(name) for name in tensors} >= {self.block(name) for name in expected.shapes}

    def block(self, name: str) -> str:
        """The block in which a tensor lies, or a name for all those outside of blocks."""
        return self.stage(name)

    def is_member(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a network with these tensors (by exported name, some may be missing) can be one of the family."""
        return True

    def parts(self, name: str) -> tuple[str, ...]:
        """The tensors from which an exported one is joined, in order; most are stored whole."""
        return (name,)

    def assemble(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The exported tensors of those that a file holds, by their names after renaming."""
        return dict(found)

    def notes(self, tensors: Mapping[str, Tensor], expected: Architecture) -> list[str]:
        """What no tensor shows and the submitter must know or declare."""
        return []


def input_channels(channels: int) -> str | None:
    """Why a network cannot be fed with color images, if its stem takes so many channels."""
    if channels == 3:
        return None
    usual = {1: "grey images", 2: "Sobel gradients"}.get(channels, "something else than RGB")
    return f"the stem takes {channels} input channel(s) ({usual}); the benchmark feeds 3"
