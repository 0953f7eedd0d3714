"""Which code ran on which machine: recorded in every run and result."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def code_commit(root: Path = _ROOT) -> str | None:
    """The git commit of the running code, with `-dirty` where tracked files differ from it.

    None outside a checkout (an installed package: its version says it), without git, or where git refuses to read.
    """
    if not (root / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "-C", str(root)]
    command += ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the installed ones among the distributions `names`, in their order."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def processor_name() -> str:
    """The CPU's model or, where that is not known, the machine type."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
        if model:
            return model[1].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
