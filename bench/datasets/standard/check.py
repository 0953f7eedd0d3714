"""Checks standard data sets that need no reader of their own: images, masks and lists."""

from __future__ import annotations

from pathlib import Path

from bench.datasets.files import ImageFiles, by
from bench.datasets.masks import check_masks, load_foreground
from bench.datasets.report import Findings, Split
from bench.datasets.standard.table import Part, Standard
from bench.errors import BenchError

_Key = tuple[str, str]


def read_standard(standard: Standard, root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read the images, masks and lists of a data set's splits.

    What a list names and is not there is an error. Other numbers than the published ones are a warning: a part of a
    data set can be used, but its values cannot be compared.
    """
    splits = {"train": Split(), "val": Split()}
    images: dict[str, dict[_Key, Path]] = {"train": {}, "val": {}}
    masks: dict[str, dict[_Key, Path]] = {"train": {}, "val": {}}
    for part in standard.every_part():
        if not part.split:
            continue
        _count(standard, part, root, findings)
        files = list(part.files(root))
        if part.role == "images":
            images[part.split] |= {_key(path): path for path in files}
        else:
            splits[part.split].annotations += files
        if part.role == "masks":
            masks[part.split] |= {_key(path): path for path in files}
    for name, split in splits.items():
        split.images = list(images[name].values())
    opened = ImageFiles(root, [path for split in splits.values() for path in split.images], findings)
    pairs = {
        name: [(images[name][key], masks[name][key]) for key in images[name] if key in masks[name]] for name in splits
    }
    _report_alone(images, masks, findings)
    if standard.labels:
        check_masks(pairs, splits, standard.labels, lambda found: f"{standard.title} has {_range(standard)}", opened)
    else:
        _read(splits, pairs, opened)
    return splits, opened


def _key(path: Path) -> _Key:
    """What an image and its mask have in common."""
    return path.parent.name, path.stem


def _count(standard: Standard, part: Part, root: Path, findings: Findings) -> None:
    found = part.found(root)
    if not found:
        findings.error(
            "missing parts",
            f"no {part.what}: expected {part.where}; how to get it: densebench data prepare {root} {standard.name}",
        )
    elif missing := [] if part.role == "list" else part.absent(root):
        findings.error(
            "incomplete parts", f"{len(missing):,} of {part.what} are missing, such as {missing[0]} (of {part.names})"
        )
    elif part.count is not None and found != part.count:
        findings.warning(
            "parts of another length",
            f"{part.what}: {found:,}, published results have {part.count:,}: values cannot be compared with theirs",
        )


def _report_alone(images: dict[str, dict[_Key, Path]], masks: dict[str, dict[_Key, Path]], findings: Findings) -> None:
    for split, found in masks.items():
        if not found:
            continue
        for key in images[split].keys() - found.keys():
            findings.error("images without a mask", f"{findings.name(images[split][key])} has no mask")
        for key in found.keys() - images[split].keys():
            findings.error("masks without an image", f"{findings.name(found[key])} has no image")


def _read(splits: dict[str, Split], pairs: dict[str, list[tuple[Path, Path]]], images: ImageFiles) -> None:
    """Decode masks that hold no classes, and the images."""
    for name, split in splits.items():
        sizes = {path: images.size(path) for path in split.images}
        for image, mask in pairs[name]:
            try:
                labels = load_foreground(mask)
            except BenchError as error:
                images.findings.error("damaged masks", str(error))
                continue
            size = (labels.shape[1], labels.shape[0])
            what = f"{images.findings.name(mask)} is {by(size)}, "
            images.compare(image, sizes[image], size, what, "masks of another size than their image")


def _range(standard: Standard) -> str:
    return f"labels {min(standard.labels)} to {max(label for label in standard.labels if label < 255)}, and 255 = void"
