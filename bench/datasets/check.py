"""Checks a data set before anybody spends hours on it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.datasets import (
    ade20k,
    check_cityscapes,
    check_coco,
    check_voc,
    cityscapes_instances,
    classified,
    davis,
    discovered,
    jhmdb,
    lvis,
    vip,
)
from bench.datasets.files import ImageFiles, fingerprint, report_copies
from bench.datasets.own import description as own
from bench.datasets.own.check import check_own
from bench.datasets.report import DatasetReport, Findings, Split, Unit
from bench.datasets.standard import STANDARD
from bench.datasets.standard.check import read_standard
from bench.errors import BenchError


@dataclass(frozen=True)
class Dataset:
    """A data set that `check` knows."""

    folder: Path
    """Folder below the data root."""
    layout: str
    unit: Unit
    read: Callable[[Path, Findings], tuple[dict[str, Split], ImageFiles]]
    named_by: str = ""
    """The kind of ids by which the report names classes, where the files hold no names."""
    sign: str = ""
    """Pattern of files that show that a data root has this data set, where others have the same folder; else empty."""


DATASETS: Final[dict[str, Dataset]] = {
    "voc2012_det": Dataset(check_voc.FOLDER, check_voc.DETECTION_LAYOUT, "objects", check_voc.check_voc_detection),
    "voc2012_seg": Dataset(
        check_voc.FOLDER, check_voc.SEGMENTATION_LAYOUT, "pixels", check_voc.check_voc_segmentation, "VOC's label ids"
    ),
    "coco2017": Dataset(Path("coco"), check_coco.LAYOUT, "objects", check_coco.check_coco),
    "cityscapes": Dataset(
        check_cityscapes.FOLDER, check_cityscapes.LAYOUT, "pixels", check_cityscapes.check_cityscapes, "trainId"
    ),
}
"""The usual data sets, by id."""

FURTHER: Final[dict[str, Dataset]] = {
    "voc0712_det": Dataset(check_voc.FOLDER_2007, check_voc.LAYOUT_0712, "objects", check_voc.check_voc0712_detection),
    "voc2012aug_seg": Dataset(
        check_voc.AUGMENTED_FOLDER,
        check_voc.AUGMENTED_LAYOUT,
        "pixels",
        check_voc.check_voc_augmented,
        "VOC's label ids",
    ),
    "cityscapes_inst": Dataset(
        check_cityscapes.FOLDER,
        check_cityscapes.INSTANCE_LAYOUT,
        "objects",
        check_cityscapes.check_cityscapes_instances,
        sign=f"gtFine/*/*/*{cityscapes_instances.LABEL}",
    ),
    ade20k.NAME: Dataset(
        ade20k.FOLDER, ade20k.LAYOUT, "pixels", partial(read_standard, STANDARD[ade20k.NAME]), "ADE20K's labels"
    ),
    lvis.NAME: Dataset(lvis.FOLDER, lvis.LAYOUT, "objects", lvis.check_lvis, sign="lvis_v1_val.json"),
    davis.DAVIS_2016: Dataset(davis.FOLDER, davis.LAYOUT, "pixels", davis.check_davis2016),
    davis.DAVIS_2017: Dataset(
        davis.FOLDER, davis.LAYOUT, "pixels", davis.check_davis2017, sign="ImageSets/2017/val.txt"
    ),
    vip.VIP: Dataset(vip.FOLDER, vip.LAYOUT, "pixels", vip.check_vip),
    jhmdb.JHMDB: Dataset(jhmdb.FOLDER, jhmdb.LAYOUT, "objects", jhmdb.check_jhmdb),
    "voc2012_maskdistill": Dataset(
        discovered.FOLDER,
        discovered.VOC_LAYOUT,
        "pixels",
        discovered.check_voc_discovered,
        "VOC's label ids",
        sign=discovered.VOC,
    ),
    "coco2017_maskdistill": Dataset(
        discovered.FOLDER, discovered.COCO_LAYOUT, "objects", discovered.check_coco_discovered, sign=discovered.COCO
    ),
}
"""The data sets that only track paper and probes of videos need; a data root that has one has its `folder` and files
like its `sign`."""

NAMED: Final[dict[str, Dataset]] = {
    name: Dataset(
        standard.folder(),
        f"what `densebench data prepare ROOT {name}` sets up",
        "pixels" if standard.labels else "objects",
        partial(read_standard, standard),
    )
    for name, standard in STANDARD.items()
    if name not in DATASETS | FURTHER and any(part.split and part.role == "images" for part in standard.every_part())
}
"""The data sets that are checked only where they are named: some are large."""

CLASSIFIED: Final[dict[str, Dataset]] = {
    "voc2007": Dataset(check_voc.FOLDER_2007, check_voc.LAYOUT_2007, "objects", check_voc.check_voc2007),
    **{
        name: Dataset(classified.FOLDER, classified.LAYOUT, "images", partial(classified.read_trees, dataset=name))
        for name in classified.TREES
    },
}
"""The data sets of probes of whole images, which are checked only where they are named: some are large."""


def expected_in(root: Path) -> list[str]:
    """Data sets that are checked by default in a data root: the usual ones, and further ones that it has."""
    return [*DATASETS, *(name for name, entry in FURTHER.items() if _has(root, entry))]


def is_data_root(root: Path) -> bool:
    """Whether a folder has that of a data set which is checked by default."""
    return any(_is_folder(root / entry.folder) for entry in (DATASETS | FURTHER).values())


def _has(root: Path, entry: Dataset) -> bool:
    folder = root / entry.folder
    return _is_folder(folder) and (not entry.sign or next(folder.glob(entry.sign), None) is not None)


def check(root: Path, dataset: str) -> DatasetReport:
    """Read a data set below the data root and report what is in it and what is wrong with it.

    `dataset` is a key of `DATASETS`, `FURTHER`, `NAMED` or `CLASSIFIED`, or one of
    `bench.datasets.own.description.DATASETS`: then `root` is, or holds, the description of data of the user's own.
    Everything that training or evaluation reads is
    checked: lists, annotations, masks, and images (decoded up to `files.THOROUGH_BYTES` in all; for larger sets only
    their headers). Everything wrong with the data is a problem in the report; only an unknown data set, or a
    description that cannot be used, raises `BenchError`.
    """
    if dataset in own.DATASETS:
        return check_own(root, dataset)
    known = DATASETS | FURTHER | NAMED | CLASSIFIED
    if dataset not in known:
        raise BenchError(f"unknown data set {dataset!r}: choose from {', '.join(known)}")
    entry = known[dataset]
    findings = Findings(root)
    splits = {"train": Split(), "val": Split()}
    images = ImageFiles(root, (), findings)
    if _is_folder(root / entry.folder):
        splits, images = entry.read(root, findings)
        report_copies(splits["train"].images, splits["val"].images, images)
    else:
        missing = f"no {entry.folder.as_posix()} in {root}" if _is_folder(root) else f"there is no folder {root}"
        findings.error("missing folders", f"{missing}: expected {entry.layout}")
    digest, rule = fingerprint(root, images, [path for split in splits.values() for path in split.annotations])
    return DatasetReport(dataset, root, entry.unit, splits, findings.problems(), digest, rule, entry.named_by)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # unlike Path's, it raises nothing where permission is denied
