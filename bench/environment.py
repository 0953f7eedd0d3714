"""Describes the machine and the versions of a run, for its result."""

from __future__ import annotations

import platform
from typing import Literal

import torch

from leaderboard.base.provenance import code_commit, package_versions
from leaderboard.records import Environment
from pretrain.run.memory import device_name

# A library is listed under the name by which it is installed; forks of the OpenMMLab libraries keep the import names.
PACKAGES = (
    "densebench", "torch", "torchvision", "numpy", "pycocotools", "hotcoco", "opencv-python-headless",
    "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "onedl-mmsegmentation",
    "mmengine", "mmcv", "mmdet", "mmsegmentation",
)  # fmt: skip


def describe_environment(
    device: torch.device, precision: Literal["fp32", "bf16", "fp16"], devices: int = 1
) -> Environment:
    """Device name, threads, Python and package versions, and the commit if the code is a git checkout.

    Several devices that share a run are named with their number, `2 x NVIDIA H100`.
    """
    name = device_name(device)
    return Environment(
        device=name if devices == 1 else f"{devices} x {name}",
        precision=precision,
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        packages=package_versions(PACKAGES),
        code_commit=code_commit(),
    )
