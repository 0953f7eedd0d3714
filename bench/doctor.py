"""What this machine can run, and what is missing to run the rest."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from bench import fine_tuning
from bench.datasets import check, expected_in
from bench.datasets.own.check import usable
from bench.datasets.own.description import is_own
from bench.errors import BenchError
from leaderboard.base.provenance import available_cores, package_versions

PACKAGES = ("torch", "torchvision", "numpy", "scikit-image", "pycocotools", "simplejpeg")
OPENCV = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
)
"""Distributions that install the same module `cv2`, the one that DenseBench asks for first."""
OWN = ("bench", "densebench", "leaderboard", "pretrain", "transfer_configs")
"""The packages that DenseBench installs."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; `missing` means that some command cannot work."""

    what: str
    state: Literal["ok", "note", "missing"]
    finding: str
    command: str | None = None
    """The command that fixes or adds it."""

    def to_dict(self) -> dict[str, str | None]:
        """The finding as data, for `--json`."""
        return asdict(self)


def diagnose(work: Path, data: Path | None) -> list[Finding]:
    """Examine packages, operators, device, memory, disk and, if given, the data root."""
    findings = [_python(), *(_package(name) for name in PACKAGES), _opencv(), *_foreign(), _fine_tuning()]
    if not any(finding.state == "missing" for finding in findings):
        findings += [] if fine_tuning.missing() else [_operators()]
        findings += [_device()]
    findings += [_memory(), _disk(work)]
    if data is not None:
        findings += _own_data(data) if is_own(data) else [_dataset(data, dataset) for dataset in expected_in(data)]
    return findings


def _python() -> Finding:
    supported = (3, 11) <= tuple(map(int, platform.python_version_tuple()[:2])) < (3, 13)
    note = "" if supported else ": use 3.11 or 3.12"
    return Finding("python", "ok" if supported else "missing", platform.python_version() + note)


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "missing", "not installed", f"pip install {name}")


def _opencv() -> Finding:
    found = package_versions(OPENCV)
    versions = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        mend = f"pip uninstall {' '.join(found)} && pip install {next(iter(found))}"
        return Finding("opencv", "note", f"{versions}: they overwrite each other's files; keep one", mend)
    if not found:
        return Finding("opencv", "missing", "not installed", f"pip install {OPENCV[0]}")
    return Finding("opencv", "ok", versions)


def _foreign() -> list[Finding]:
    """Distributions beside DenseBench that install a package of the name of one of its own."""
    owners = metadata.packages_distributions()
    findings = []
    for package in OWN:
        for other in sorted({name for name in owners.get(package, ()) if name != "densebench"}):
            text = (
                f"{other} also installs a package {package}, and each overwrites or hides files of the other: "
                "uninstall it, then install densebench again with --force-reinstall --no-deps"
            )
            findings.append(Finding(f"package {package}", "missing", text, f"pip uninstall {other}"))
    return findings


def _fine_tuning() -> Finding:
    if absent := fine_tuning.missing():
        text = f"not installed ({', '.join(absent)}); everything else works without"
        return Finding("fine-tuning", "note", text, fine_tuning.installation())
    found = package_versions(fine_tuning.DISTRIBUTIONS.values())
    return Finding(
        "fine-tuning", "ok", ", ".join(f"{name} {version}" for name, version in found.items()) or "installed"
    )


def _operators() -> Finding:
    from bench.openmmlab import prepare_openmmlab
    from bench.openmmlab.ops import uses_compiled_ops

    try:
        prepare_openmmlab()
    except BenchError as error:
        return Finding("detection operators", "missing", str(error).splitlines()[0], fine_tuning.installation())
    source = "mmcv's compiled operators" if uses_compiled_ops() else "torchvision's kernels under mmcv's names"
    return Finding("detection operators", "ok", source)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("device", "ok", f"{torch.cuda.device_count()} x {name}, {memory:.0f} GiB")
    return Finding("device", "note", f"{available_cores()} CPU cores: enough for track mini, not for track paper")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    state: Literal["ok", "note"] = "ok" if total >= 4 else "note"
    return Finding("memory", state, f"{total:.0f} GiB" + ("" if total >= 4 else ": use --processes 1"))


def _disk(work: Path) -> Finding:
    existing = next(folder for folder in [work.resolve(), *work.resolve().parents] if folder.exists())
    if not os.access(existing, os.W_OK):
        return Finding("work folder", "missing", f"{existing} is not writable: choose another --work")
    free = shutil.disk_usage(existing).free / 2**30
    state: Literal["ok", "note"] = "ok" if free >= 2 else "note"
    return Finding("work folder", state, f"{existing}: {free:.0f} GiB free")


def _own_data(data: Path) -> list[Finding]:
    try:
        return [_dataset(data, dataset) for dataset in usable(data)]
    except BenchError as error:
        return [Finding("own data", "missing", str(error))]


def _dataset(root: Path, dataset: str) -> Finding:
    try:
        report = check(root, dataset)
    except BenchError as error:
        return Finding(dataset, "missing", str(error))
    if report.errors:
        return Finding(dataset, "missing", f"{report.errors[0]} (densebench data check {root})")
    reference = report.reference()
    return Finding(dataset, "ok", f"{reference.train_images} train, {reference.val_images} val images")
