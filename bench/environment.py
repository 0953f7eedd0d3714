"""The machine and the versions under which a run was made, for its result."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch

from leaderboard.records import Environment

# A library is listed under the name by which it is installed; forks of the OpenMMLab libraries keep the import names.
PACKAGES = (
    "densebench", "torch", "torchvision", "numpy", "pycocotools", "opencv-python-headless",
    "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "onedl-mmsegmentation",
    "mmengine", "mmcv", "mmdet", "mmsegmentation",
)  # fmt: skip


def describe_environment(device: torch.device, precision: Literal["fp32", "bf16", "fp16"]) -> Environment:
    """Device name, threads, Python and package versions, and the commit if the code is a git checkout."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Environment(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        precision=precision,
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        packages=versions,
        code_commit=_commit(),
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
        if model:
            return model[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None  # installed as a package: the version says it
    try:
        return subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or a folder that git refuses to read
