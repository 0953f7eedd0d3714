"""Checks the label images of a segmentation data set."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.datasets.files import ImageFiles, by, is_file, why_missing
from bench.datasets.names import VOID
from bench.datasets.pixels import LARGEST_FILE, WrongModeError, decode_labels, first_line, quiet
from bench.datasets.report import Findings, Split, Strict
from bench.errors import BenchError
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.files import read_bounded
from pretrain.data.pictures import open_picture

CONVERT: Final = "make trainIds of them with `densebench data prepare ROOT cityscapes`"
"""What to do where Cityscapes' masks hold labelIds instead of trainIds."""
_LABELS: Final = 256


def read_labels(path: Path, findings: Findings) -> npt.NDArray[np.uint8] | None:
    """The label image (H, W); None, with the problem reported, if it is missing, damaged or not a label image."""
    name = findings.name(path)
    if not is_file(path):
        report_missing(path, findings)
        return None
    try:
        return decode_labels(read_bounded(path, LARGEST_FILE))
    except WrongModeError as error:
        findings.error("masks of a wrong type", f"{name} {error}")
    except (DenseBenchError, OSError, ValueError) as error:
        findings.error("damaged masks", f"{name} is damaged: {first_line(error)}")
    return None


def load_labels(path: Path) -> npt.NDArray[np.uint8]:
    """The label image (H, W), for training and evaluation.

    Raises:
        BenchError: it is missing, damaged or not a label image.
    """
    labels = read_labels(path, Strict())
    assert labels is not None  # else an error was raised
    return labels


def load_foreground(path: Path) -> npt.NDArray[np.uint8]:
    """The mask (H, W) of a foreground: 1 where the first channel is above half of its range, else 0.

    Raises:
        BenchError: it is missing or damaged.
    """
    try:
        with quiet(), open_picture(io.BytesIO(read_bounded(path, LARGEST_FILE))) as picture:
            first = np.asarray(picture if picture.mode != "P" else picture.convert("L"))
    except Exception as error:  # damaged data makes decoders raise nearly anything
        raise BenchError(f"{path} cannot be read: {first_line(error)}") from error
    return (first.reshape(*first.shape[:2], -1)[:, :, 0] > 127).astype(np.uint8)


def report_missing(path: Path, findings: Findings) -> None:
    """Report a mask that is missing or not a file."""
    name = findings.name(path)
    if is_file(path.with_name(path.name.replace("labelTrainIds", "labelIds"))):
        findings.error("missing trainId masks", f"{name} is missing, only its labelIds exist: {CONVERT}")
    else:
        findings.error("missing masks", f"{name} {why_missing(path)}")


def check_masks(
    pairs: Mapping[str, Sequence[tuple[Path, Path]]],
    splits: Mapping[str, Split],
    names: Mapping[int, str],
    explain: Callable[[frozenset[int]], str],
    images: ImageFiles,
) -> None:
    """Read the (image, mask) pairs of each split, count pixels into its histogram, report what is wrong.

    `names` are the classes by label, with void; `explain` tells from all labels found what the wrong ones mean.
    """
    findings = images.findings
    counted: list[tuple[str, Path, dict[int, int]]] = []
    for split, files in pairs.items():
        splits[split].histogram.update(dict.fromkeys(names.values(), 0))
        for image, mask in files:
            size = images.size(image)
            labels = read_labels(mask, findings)
            if labels is None:
                continue
            height, width = labels.shape
            what = f"{findings.name(mask)} is {by((width, height))}, "
            images.compare(image, size, (width, height), what, "masks of another size than their image")
            pixels = np.bincount(labels.ravel(), minlength=_LABELS).tolist()
            counted.append((split, mask, {label: count for label, count in enumerate(pixels) if count}))
    found = frozenset(label for _, _, counts in counted for label in counts)
    for split, mask, counts in counted:
        name = findings.name(mask)
        for label in counts.keys() & names.keys():
            splits[split].histogram[names[label]] += counts[label]
        if wrong := sorted(counts.keys() - names.keys()):
            shown = f"label{'s' if wrong[1:] else ''} {', '.join(map(str, wrong[:5]))}{', ...' if wrong[5:] else ''}"
            area = sum(counts[label] for label in wrong)
            findings.error("masks with wrong labels", f"{name} has {shown} on {area} pixels: {explain(found)}")
        if counts.keys() == {VOID}:
            findings.warning("masks that are all void", f"{name} is all void ({VOID}): nothing in its image counts")
    _report_labels(pairs, counted, found, names, findings)


def _report_labels(
    pairs: Mapping[str, Sequence[tuple[Path, Path]]],
    counted: Sequence[tuple[str, Path, dict[int, int]]],
    found: frozenset[int],
    names: Mapping[int, str],
    findings: Findings,
) -> None:
    """Report splits without a labeled pixel, and labels that seem to begin with 1."""
    for split in pairs:
        masks = [counts for name, _, counts in counted if name == split]
        if masks and all(counts.keys() == {VOID} for counts in masks):
            findings.error("splits that are all void", f"every pixel of every mask in {split} is void ({VOID})")
    if found - {VOID} and found <= names.keys() and 0 not in found:
        findings.warning(
            "labels that begin with 1",
            f"no mask has label 0 ({names[0]}): if your labels begin with 1, subtract 1 from them",
        )
