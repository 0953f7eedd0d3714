"""ResNets of DeepMind's Haiku (BYOL, DetCon, ReLICv2): converts their names and arrays to those of PyTorch.

Haiku keeps parameters and moving averages in two dictionaries of dictionaries, `online_params` and `online_state`, by
module paths with `/~/`: `res_net50/~/block_group_0/~/block_0/~/conv_0` has `w`, `.../batchnorm_0` (in DetCon's files
`norm_0`) has `scale` and `offset`, `.../batchnorm_0/~/mean_ema` has `average`, `hidden` and `counter`. Kernels are
height x width x input x output, the arrays of a BatchNorm (1, 1, 1, channels). Arrays in files of ReLICv2 have one more
axis in front, with one entry per device.

The names given here are those of the PyTorch port of DetCon (PyPI `pytorch-eff-vis-pretraining`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor

NOTES = (
    "names and kernels of Haiku (JAX) were turned into PyTorch's; of a BatchNorm's moving averages, `average` counts",
    "warning: Haiku pads strided layers less in front than behind (SAME), torchvision's ResNet equally: the features "
    "are the authors' up to that shift",
)
_SEPARATOR = "/~/"
_HALVES = re.compile(r"^(?:(.*)_)?(?:params|state)$")
"""Matches the name of the dictionary around the modules: the part before `params` or `state` names the network."""
_UNUSED = re.compile(r"\.(?:mean|var)_ema\.\w+$")
"""Matches `hidden` and `counter`, from which `average` was computed."""
_IN_PATHS = (
    (r"\bblock_group_(\d+)\.block_(\d+)\b", r"block_groups.block_group_\1.blocks.block_\2"),
    (r"\b((?:initial|shortcut|final)_)?norm\b", r"\1batchnorm"),
    (r"\bnorm_(\d)\b", r"batchnorm_\1"),
    (r"\b(initial_(?:conv|batchnorm))_1\b", r"\1"),
    (r"\.mean_ema\.average$", ".running_mean"),
    (r"\.var_ema\.average$", ".running_var"),
    (r"\.(w|scale)$", ".weight"),
    (r"\.(b|offset)$", ".bias"),
)


def is_haiku(names: Iterable[str]) -> bool:
    """Whether one of the names is a module path of Haiku."""
    return any(_SEPARATOR in name for name in names)


def renamed(name: str) -> tuple[str, str]:
    """The dictionaries around a tensor and its name in PyTorch, from its full name; other names are not changed.

    >>> renamed("experiment_state.online_state.res_net50/~/block_group_0/~/block_1/~/batchnorm_2/~/mean_ema.average")
    ('experiment_state.online', 'res_net50.block_groups.block_group_0.blocks.block_1.batchnorm_2.running_mean')
    >>> renamed("res_net50/~/initial_conv/w")
    ('', 'res_net50.initial_conv.weight')
    """
    parts = name.split(".")
    place = next((index for index, part in enumerate(parts) if "/" in part), len(parts) - 1)
    outer, inside = parts[:place], parts[place].split("/") + parts[place + 1 :]
    if "/" in parts[place] and outer and (half := _HALVES.match(outer[-1])):
        outer[-1:] = [half[1]] if half[1] else []
    path = ".".join(part for part in inside if part != "~")
    for pattern, words in _IN_PATHS:
        path = re.sub(pattern, words, path)
    if _UNUSED.search(path):
        path = f"moving_averages.{path}"  # not a part of the network
    return ".".join(outer), path


def as_pytorch(array: Tensor) -> Tensor:
    """The array without the axis of the devices; kernels are transposed, a BatchNorm's arrays flattened."""
    one = array[0] if array.ndim == 5 and len(array) else array
    if one.ndim != 4:
        return one
    return one.reshape(-1) if one.shape[:3] == (1, 1, 1) else one.permute(3, 2, 0, 1)
