"""Where in a file the backbone lies: the naming style, the prefix, and which network when there are several.

Prefixes are found, not listed: whatever stands before `layer1.0.conv1.weight` is the prefix, so `module.encoder_q.`,
`backbone.` and one that nobody has thought of yet are all recognised. Only a different *naming* of the layers needs an
entry in `LAYOUTS`. Marks that wrappers of single layers leave inside the names (`MARKS`) are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from bench.checkpoints.architectures import nearest, optional
from bench.checkpoints.containers import Leaf
from bench.checkpoints.values import same_bits
from bench.errors import BenchError
from leaderboard.base.printable import printable_name

MARKS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What DataParallel, torch.compile, FSDP and activation checkpointing put into the names of what they wrap."""
_MOST_COMPARED = 2**28
"""Values of a tensor that are compared with another network's: no backbone has as many."""


@dataclass(frozen=True)
class Layout:
    """A naming style: `modules` maps its names of the top modules to torchvision's, or to nothing."""

    name: str
    modules: Mapping[str, str]
    inside: tuple[tuple[str, str], ...] = ()
    """Regular expressions and what replaces them, in the order in which they are tried, in names without prefix."""

    def find_prefixes(self, names: list[str]) -> list[str]:
        """Every text that stands before a residual block's convolution, in the order of the file."""
        stages = "|".join(re.escape(own) for own, common in self.modules.items() if common.startswith("layer"))
        marks = rf"(?:(?:{'|'.join(sorted(MARKS))})\.)*"
        block = re.compile(rf"((?:.*\.)?)(?:{stages})\.{marks}\d+\.{marks}conv[12]\.", re.DOTALL)
        return list(dict.fromkeys(match[1] for name in names if (match := block.match(name))))

    def to_torchvision(self, name: str) -> str | None:
        """The torchvision name of a tensor whose prefix was taken off; None if it is none of the backbone's modules."""
        module, *rest = name.split(".")
        if module not in self.modules or not rest:
            return None
        common = ".".join(filter(None, [self.modules[module], *(part for part in rest if part not in MARKS)]))
        for pattern, words in self.inside:
            common = re.sub(pattern, words, common)
        return common


LAYOUTS: tuple[Layout, ...] = (
    Layout("torchvision names", {m: m for m in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")}),
    # nn.Sequential(*resnet.children()): lightly's backbones, the original R2O files. ReLU is 2, max-pooling 3.
    Layout(
        "positional names (nn.Sequential of a ResNet's children)",
        {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"},
    ),
    Layout(
        "detectron2 names (stem, res2 to res5)",
        {"stem": "", "res2": "layer1", "res3": "layer2", "res4": "layer3", "res5": "layer4"},
        (
            (r"\bconv(\d)\.norm\.", r"bn\1."),
            (r"\bshortcut\.norm\.", "downsample.1."),
            (r"\bshortcut\.", "downsample.0."),
        ),
    ),
)


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
    odd: Mapping[str, str]
    """Torchvision name to why the tensor has no plain values (`sparse`)."""

    @property
    def prefix(self) -> str:
        """The prefix within the state dict: `module.encoder_q.`"""
        return self.full_prefix[len(self.location) + 1 :] if self.location else self.full_prefix

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"`{printable_name(self.full_prefix)}`" if self.full_prefix else "no prefix"

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
            tensor.numel() <= _MOST_COMPARED and same_bits(tensor, other.tensors[name])
            for name, tensor in self.tensors.items()
        )


def prefixes_of(name: str) -> Iterator[str]:
    """What may be the prefix of a name, the longest first: `a.b.`, `a.` and nothing of `a.b.c`."""
    end = name.rfind(".")
    while end >= 0:
        yield name[: end + 1]
        end = name.rfind(".", 0, end)
    yield ""


def find_candidates(leaves: Mapping[str, Leaf]) -> list[Candidate]:
    """All ResNet-like networks of a file; an empty list if there is none.

    Raises:
        BenchError: two tensors of the file are the same part of one network.
    """
    candidates = []
    names = list(leaves)
    for layout in LAYOUTS:
        found: dict[str, dict[str, str]] = {prefix: {} for prefix in layout.find_prefixes(names)}
        for name in names if found else ():
            for prefix in prefixes_of(name):
                if prefix in found and (common := layout.to_torchvision(name[len(prefix) :])):
                    if common in found[prefix]:
                        one, two = printable_name(found[prefix][common]), printable_name(name)
                        raise BenchError(f"`{one}` and `{two}` are the same part of a network: which counts?")
                    found[prefix][common] = name
        candidates += [_candidate(layout, prefix, sources, leaves) for prefix, sources in found.items()]
    return candidates


def _candidate(layout: Layout, full_prefix: str, sources: dict[str, str], leaves: Mapping[str, Leaf]) -> Candidate:
    location = leaves[next(iter(sources.values()))].location
    if location and not full_prefix.startswith(f"{location}."):
        location = ""  # a dictionary a module: the path is part of the tensor names
    tensors = {common: leaves[name].tensor for common, name in sources.items()}
    odd = {common: what for common, name in sources.items() if (what := leaves[name].odd)}
    return Candidate(layout, full_prefix, location, tensors, sources, odd)
