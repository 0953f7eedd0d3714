"""What values depend on: the card, the machine, the versions, and what is missing."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import torch

from bench.benchmarks.gpu_check.task import Task
from bench.benchmarks.rounds import in_words, machine
from leaderboard.base.provenance import package_versions

PACKAGES = ("triton", "nvidia-nccl-cu12", "nvidia-nccl-cu13", "simplejpeg", "pillow", "lightly")


def machine_part(task: Task) -> None:
    """Describe the machine."""
    about = machine(task.device, "bf16")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    about |= {"memory_gib": round(memory, 1), "shared_memory_gib": _shared_memory(), "loading_processes": task.workers}
    about["packages"] |= package_versions(PACKAGES)
    about["c_compiler"] = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    missing = [name for name in ("triton", "simplejpeg", "lightly") if find_spec(name) is None]
    if task.device.type == "cuda":
        properties = torch.cuda.get_device_properties(task.device)
        about |= {
            "device_memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "devices": torch.cuda.device_count(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),  # type: ignore[no-untyped-call]
        }
    task.note(**about, missing=missing)
    for line in in_words(about).splitlines():
        task.line(line)
    task.line(f"{memory:.0f} GiB memory, shared {about['shared_memory_gib']} GiB; C compiler {about['c_compiler']}")
    if task.device.type == "cuda":
        versions = f"CUDA {about['cuda']}, cuDNN {about['cudnn']}, NCCL {about['nccl']}"
        task.line(f"{about['devices']} device of {about['device_memory_gib']} GiB; {versions}")
    if missing:
        task.line(f"not installed: {', '.join(missing)}")


def _shared_memory() -> float | None:
    """GiB through which loading processes can hand over batches; None where the system has no such folder."""
    try:
        return round(shutil.disk_usage("/dev/shm").total / 2**30, 2)
    except OSError:
        return None
