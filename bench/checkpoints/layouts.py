"""Finds the backbone in a file: its naming style, its prefix, and all networks when there are several.

Prefixes are found, not listed: whatever comes before `layer1.0.conv1.weight` (in a ViT, before the projection of its
patches) is the prefix, so `module.encoder_q.`, `backbone.` and any new one are all recognized. Only a different
*naming* of the layers needs an entry in `LAYOUTS`. Marks that wrappers of single layers leave inside the names
(`MARKS`) are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from bench.checkpoints.containers import Leaf
from bench.checkpoints.dinov3 import DINOV3_LAYOUTS, DINOv3
from bench.checkpoints.families import Architecture, Family, architecture, optional
from bench.checkpoints.naming import Layout
from bench.checkpoints.resnets import RESNET
from bench.checkpoints.timm_namings import TIMM_LAYOUTS, declared_layouts
from bench.checkpoints.values import same_bits
from bench.checkpoints.vits import VIT
from bench.errors import BenchError
from leaderboard.base.printable import printable_name
from pretrain.nets.architectures import TimmArchitecture, find_architecture

_MOST_COMPARED = 2**28
"""Tensors of more values than this are not compared with another network's: no backbone has as many."""


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
    Layout(
        "Hugging Face's ResNet names (transformers)",
        {"embedder": "", "encoder": ""},
        (
            (r"^embedder\.convolution\.", "conv1."),
            (r"^embedder\.normalization\.", "bn1."),
            *((rf"^stages\.{n}\.layers\.", f"layer{n + 1}.") for n in range(4)),
            *((rf"\.layer\.{n}\.convolution\.", f".conv{n + 1}.") for n in range(3)),
            *((rf"\.layer\.{n}\.normalization\.", f".bn{n + 1}.") for n in range(3)),
            (r"\.shortcut\.convolution\.", ".downsample.0."),
            (r"\.shortcut\.normalization\.", ".downsample.1."),
        ),
        anchor=r"encoder\.stages\.\d+\.layers\.\d+\.layer\.[01]\.convolution\.weight$",
    ),
    # The names that `haiku` gives, which are those of DetCon's port to PyTorch.
    Layout(
        "DeepMind names (Haiku; its SAME padding is lost)",
        {"initial_conv": "conv1", "initial_batchnorm": "bn1", "block_groups": ""},
        (
            *((rf"^block_group_{n}\.blocks\.block_", f"layer{n + 1}.") for n in range(4)),
            *((rf"\.conv_{n}\.", f".conv{n + 1}.") for n in range(3)),
            *((rf"\.batchnorm_{n}\.", f".bn{n + 1}.") for n in range(3)),
            (r"\.shortcut_conv\.", ".downsample.0."),
            (r"\.shortcut_batchnorm\.", ".downsample.1."),
        ),
        anchor=r"block_groups\.block_group_\d\.blocks\.block_\d+\.conv_[01]\.weight$",
    ),
    # DINOv2's training code puts blocks into chunks: blocks.1.5 is block 5. Layer scales are ls1, or gamma_1 in iBOT.
    Layout(
        "timm's ViT names",
        {"patch_embed": "patch_embed", "blocks": "blocks", "norm": "norm", "fc_norm": "norm"},
        (
            (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
            (r"\.gamma_([12])$", r".ls\1.gamma"),
            (r"\.mlp\.w12\.", ".mlp.fc1."),
            (r"\.mlp\.w3\.", ".mlp.fc2."),
        ),
        VIT,
        {"cls_token": "cls_token", "pos_embed": "pos_embed", "reg_token": "reg_token", "register_tokens": "reg_token"},
        r"patch_embed\.proj\.weight$",
    ),
    Layout(
        "torchvision's ViT names",
        {"conv_proj": "patch_embed.proj", "encoder": ""},
        (
            (r"^pos_embedding$", "pos_embed"),
            (r"^layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
            (r"^ln\.", "norm."),
            (r"\.ln_([12])\.", r".norm\1."),
            (r"\.self_attention\.in_proj_", ".attn.qkv."),
            (r"\.self_attention\.out_proj\.", ".attn.proj."),
            (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
            (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
        ),
        VIT,
        {"class_token": "cls_token"},
        r"conv_proj\.weight$",
    ),
    Layout(
        "Hugging Face's ViT names (transformers)",
        {"embeddings": "", "encoder": "", "layernorm": "norm"},
        (
            (r"^position_embeddings$", "pos_embed"),
            (r"^register_tokens$", "reg_token"),
            (r"^patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^layer\.(\d+)\.", r"blocks.\1."),
            (r"\.attention\.attention\.([qkv])(uery|ey|alue)\.", r".attn.\1."),
            (r"\.attention\.output\.dense\.", ".attn.proj."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"\.output\.dense\.", ".mlp.fc2."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
            (r"\.mlp\.weights_in\.", ".mlp.fc1."),
            (r"\.mlp\.weights_out\.", ".mlp.fc2."),
        ),
        VIT,
        anchor=r"embeddings\.patch_embeddings\.projection\.weight$",
    ),
    Layout(
        "OpenMMLab's ViT names",
        {"patch_embed": "patch_embed", "layers": "blocks", "ln1": "norm"},
        (
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"\.ln([12])\.", r".norm\1."),
            (r"\.attn\.attn\.in_proj_", ".attn.qkv."),
            (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
            (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
            (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
        ),
        VIT,
        {"cls_token": "cls_token", "pos_embed": "pos_embed"},
        r"patch_embed\.projection\.weight$",
    ),
    *DINOV3_LAYOUTS,
    *TIMM_LAYOUTS,
)


@dataclass(frozen=True)
class Candidate:
    """One network of the file that looks like one of a family that can be imported."""

    layout: Layout
    full_prefix: str
    """Prefix including the dictionaries around the state dict, e.g. `state_dict.module.encoder_q.`"""
    location: str
    """The dictionaries around the state dict alone, e.g. `state_dict`."""
    tensors: Mapping[str, Tensor]
    """All tensors inside the backbone's top modules, expected or not, by exported name."""
    sources: Mapping[str, str]
    """Full name in the file of each tensor, by its name after renaming; joined tensors are listed by their parts."""
    odd: Mapping[str, str]
    """Why a tensor has no plain values (e.g. `sparse`), by its name after renaming."""
    named: str | None = None
    """The architecture that the caller names; None where the tensors tell it."""

    @property
    def family(self) -> Family:
        """Family of the network."""
        return self.layout.family

    def origins(self, name: str) -> tuple[str, ...]:
        """Full names of the tensors in the file that fill an exported one."""
        names = (name,) if name in self.sources else self.family.parts(name)
        return tuple(self.sources[part] for part in names if part in self.sources)

    def nearest(self) -> Architecture:
        """The architecture that the caller names, or that the network fits best."""
        return architecture(self.named) if self.named else self.family.nearest(self.tensors)

    @property
    def prefix(self) -> str:
        """Prefix within the state dict, e.g. `module.encoder_q.`"""
        return self.full_prefix[len(self.location) + 1 :] if self.location else self.full_prefix

    @property
    def label(self) -> str:
        """Name of the network in messages."""
        return f"`{printable_name(self.full_prefix)}`" if self.full_prefix else "no prefix"

    def whole(self) -> bool:
        """Whether every tensor of the nearest architecture is there with the right shape."""
        shapes = self.nearest().shapes
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
    """All possible prefixes of a name, the longest first: for `a.b.c` these are `a.b.`, `a.` and the empty one."""
    end = name.rfind(".")
    while end >= 0:
        yield name[: end + 1]
        end = name.rfind(".", 0, end)
    yield ""


def find_named(leaves: Mapping[str, Leaf], name: str) -> list[Candidate]:
    """All networks of a file that hold every tensor of the architecture called `name`, whatever their family.

    Raises:
        BenchError: there is none.
    """
    # a network of timm may have all names of a ResNet or a ViT: their families would not know it
    of_timm = isinstance(find_architecture(name), TimmArchitecture)
    known = tuple(layout for layout in LAYOUTS if not of_timm or layout.family not in (RESNET, VIT))
    for layouts in (known, declared_layouts(name)):
        named = (replace(candidate, named=name) for candidate in find_candidates(leaves, layouts))
        if found := [candidate for candidate in named if candidate.whole()]:
            return found
    raise BenchError(f"no network in the file has all tensors of {name}: leave --architecture out to see what it has")


def find_candidates(leaves: Mapping[str, Leaf], layouts: tuple[Layout, ...] = LAYOUTS) -> list[Candidate]:
    """All networks of a file that look like one of a known family; an empty list if there is none.

    Args:
        leaves: the tensors of the file.
        layouts: the naming styles that are tried.

    Raises:
        BenchError: two tensors of the file are the same part of one network.
    """
    candidates = []
    names = list(leaves)
    for layout in layouts:
        found: dict[str, dict[str, str]] = {prefix: {} for prefix in layout.find_prefixes(names)}
        for name in names if found else ():
            for prefix in prefixes_of(name):
                if prefix in found and (common := layout.exported_name(name[len(prefix) :])):
                    if common in found[prefix]:
                        one, two = printable_name(found[prefix][common]), printable_name(name)
                        raise BenchError(f"`{one}` and `{two}` are the same part of a network: which counts?")
                    found[prefix][common] = name
        networks = [_candidate(layout, prefix, sources, leaves) for prefix, sources in found.items()]
        candidates += [network for network in networks if layout.family.is_member(network.tensors)]
    rotary = {candidate.full_prefix for candidate in candidates if isinstance(candidate.family, DINOv3)}
    return [one for one in candidates if one.family is not VIT or one.full_prefix not in rotary]


def _candidate(layout: Layout, full_prefix: str, sources: dict[str, str], leaves: Mapping[str, Leaf]) -> Candidate:
    location = leaves[next(iter(sources.values()))].location
    if location and not full_prefix.startswith(f"{location}."):
        location = ""  # one dictionary per module: the path is part of the tensor names
    tensors = layout.family.assemble({common: leaves[name].tensor for common, name in sources.items()})
    odd = {common: what for common, name in sources.items() if (what := leaves[name].odd)}
    return Candidate(layout, full_prefix, location, tensors, sources, odd)
