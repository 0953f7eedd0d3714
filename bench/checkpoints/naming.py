"""A naming style of the layers of a network, and how it finds the prefix before them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.checkpoints.families import Family
from bench.checkpoints.resnets import RESNET

MARKS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Words that DataParallel, torch.compile, FSDP and activation checkpointing add to the names of what they wrap."""


@dataclass(frozen=True)
class Layout:
    """A naming style: `modules` maps its names of the top modules to those of the exported form, or to nothing."""

    name: str
    modules: Mapping[str, str]
    inside: tuple[tuple[str, str], ...] = ()
    """Regular expressions and their replacements for names without prefix, applied in this order."""
    family: Family = RESNET
    alone: Mapping[str, str] = field(default_factory=dict)
    """Names of tensors that lie in no module, with their names in the exported form."""
    anchor: str = ""
    """Regular expression for a tensor's name without prefix, by which the prefix is found; if empty, the first
    convolutions of residual blocks serve."""

    def find_prefixes(self, names: list[str]) -> list[str]:
        """Every text that comes before the anchor in a name, in the order of the file."""
        anchor = re.compile(rf"((?:.*\.)?){self.anchor or self._convolution()}", re.DOTALL)
        return list(dict.fromkeys(match[1] for name in names if (match := anchor.match(name))))

    def _convolution(self) -> str:
        stages = "|".join(re.escape(own) for own, common in self.modules.items() if common.startswith("layer"))
        marks = rf"(?:(?:{'|'.join(sorted(MARKS))})\.)*"
        return rf"(?:{stages})\.{marks}\d+\.{marks}conv[12]\."

    def exported_name(self, name: str) -> str | None:
        """Exported name of a tensor, given its name without prefix; None if it does not belong to the backbone."""
        module, *rest = name.split(".")
        if not rest:
            return self.alone.get(module)
        if module not in self.modules:
            return None
        common = ".".join(filter(None, [self.modules[module], *(part for part in rest if part not in MARKS)]))
        for pattern, words in self.inside:
            common = re.sub(pattern, words, common)
        return None if self.family.unused and self.family.unused.search(common) else common
