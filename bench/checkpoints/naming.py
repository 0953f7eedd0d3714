"""A naming style of the layers of a network, and how it finds the prefix before them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.checkpoints.families import Family
from bench.checkpoints.resnets import RESNET

MARKS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What DataParallel, torch.compile, FSDP and activation checkpointing put into the names of what they wrap."""


@dataclass(frozen=True)
class Layout:
    """A naming style: `modules` maps its names of the top modules to those of the exported form, or to nothing."""

    name: str
    modules: Mapping[str, str]
    inside: tuple[tuple[str, str], ...] = ()
    """Regular expressions and what replaces them, in the order in which they are tried, in names without prefix."""
    family: Family = RESNET
    alone: Mapping[str, str] = field(default_factory=dict)
    """Names, here and in the exported form, of tensors that lie in no module."""
    anchor: str = ""
    """Regular expression of a tensor's name without prefix by which the prefix is found; if empty, a residual block's
    convolution."""

    def find_prefixes(self, names: list[str]) -> list[str]:
        """Every text that stands before the anchor, in the order of the file."""
        anchor = re.compile(rf"((?:.*\.)?){self.anchor or self._convolution()}", re.DOTALL)
        return list(dict.fromkeys(match[1] for name in names if (match := anchor.match(name))))

    def _convolution(self) -> str:
        stages = "|".join(re.escape(own) for own, common in self.modules.items() if common.startswith("layer"))
        marks = rf"(?:(?:{'|'.join(sorted(MARKS))})\.)*"
        return rf"(?:{stages})\.{marks}\d+\.{marks}conv[12]\."

    def exported_name(self, name: str) -> str | None:
        """The exported form's name of a tensor whose prefix was taken off; None if it is none of the backbone's."""
        module, *rest = name.split(".")
        if not rest:
            return self.alone.get(module)
        if module not in self.modules:
            return None
        common = ".".join(filter(None, [self.modules[module], *(part for part in rest if part not in MARKS)]))
        for pattern, words in self.inside:
            common = re.sub(pattern, words, common)
        return None if self.family.unused and self.family.unused.search(common) else common
