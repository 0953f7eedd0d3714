"""The segmentation head that a method trained with its backbone, in an exported folder or in a file of CP2's code."""

from __future__ import annotations

import re

from bench.checkpoints.containers import read_container
from bench.checkpoints.inspection import Inspection
from bench.checkpoints.values import check_values, convert
from bench.errors import BenchError
from pretrain.exported import CARD, HEAD, WEIGHTS, read_head, serialized

_PRETRAINED = re.compile(r"(image_pool|aspp_modules|bottleneck|convs|conv_cat)\.")
"""Matches the names, within a head, of what is trained before fine-tuning: not the projection of the contrastive loss
(`contrast_conv`), and not the classifier (`conv_seg`), which that training leaves as it was drawn."""


def head_of(inspection: Inspection) -> bytes | None:
    """The content of `head.safetensors` for an inspected checkpoint that can be imported; None if it has no head.

    Raises:
        BenchError: it has values that are not finite.
        PretrainError: the file next to an exported backbone is damaged.
    """
    folder = inspection.path.parent
    if inspection.path.name == WEIGHTS and (folder / CARD).is_file():
        return serialized(read_head(folder)[0]) if (folder / HEAD).is_file() else None
    if inspection.written_by != "CP2":
        return None
    start = f"{inspection.location}." if inspection.location else ""
    start += f"{inspection.prefix.removesuffix('backbone.')}decode_head."
    leaves = read_container(inspection.path).leaves
    named = {name[len(start) :]: leaf.tensor for name, leaf in leaves.items() if name.startswith(start)}
    head = {name: tensor for name, tensor in named.items() if _PRETRAINED.match(name)}
    if problems := check_values(head)[1]:
        raise BenchError(f"{inspection.path}: its head cannot be used: {'; '.join(problems)}")
    return serialized({name: convert(name, tensor) for name, tensor in head.items()}) if head else None
