"""The device of a process, and the peak of its memory."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import torch

from leaderboard.base.provenance import processor_name


def device_name(device: torch.device) -> str:
    """Model of the GPU or processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory of this process in MiB: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():
        # The kernel's own value: that of getrusage survives exec, so that a process may report its parent's memory.
        peak_kib = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
        if peak_kib:
            return int(peak_kib[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
