"""The images on which a data root's data sets are evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.datasets import ade20k, check_cityscapes, check_voc, cityscapes, classified, davis, jhmdb, lvis, vip, voc
from bench.datasets.check import NAMED, expected_in
from bench.datasets.coco import annotation_file, image_folder, read_coco
from bench.datasets.files import is_file
from bench.datasets.own.check import check_own
from bench.datasets.own.description import is_own
from bench.datasets.report import Findings
from bench.datasets.standard import STANDARD

_EQUAL: Final = {
    "voc2012aug_seg": "voc2012_seg",
    "voc2012_maskdistill": "voc2012_seg",
    "coco2017_maskdistill": "coco2017",
    "cityscapes_inst": "cityscapes",
}
"""Data sets with the test images of others."""


def evaluated_images(root: Path) -> dict[str, list[Path]]:
    """The test images of every data set in the root, sorted, without those of other parts; by the data set's name.

    `root` may also be the description of own data, or a folder with one. Images that are missing are left out:
    `densebench data check` reports them.

    Raises:
        BenchError: a description is not valid.
    """
    if is_own(root):
        report = check_own(root)
        return {report.dataset: sorted(path for path in set(report.splits["val"].images) if is_file(path))}
    found = {}
    for name, paths in _listed(root, Findings(root)):
        present = sorted({path for path in paths if is_file(path)})
        if present:
            found[name] = present
    there = expected_in(root)
    return found | {name: found[other] for name, other in _EQUAL.items() if other in found and name in there}


def _listed(root: Path, findings: Findings) -> Iterator[tuple[str, list[Path]]]:
    """Data sets with the images of their evaluated part, by the lists that evaluation reads."""
    photos = root / check_voc.FOLDER / "JPEGImages"
    for task, name in (("Main", "voc2012_det"), ("Segmentation", "voc2012_seg")):
        listed = root / check_voc.FOLDER / "ImageSets" / task / "val.txt"
        if is_file(listed):
            yield name, [entry.image for entry in voc.read_entries(listed, photos, photos, "", findings)]
    tested = root / check_voc.FOLDER_2007 / "ImageSets" / "Main" / "test.txt"
    if is_file(tested):
        photos = root / check_voc.FOLDER_2007 / "JPEGImages"
        images = [entry.image for entry in voc.read_entries(tested, photos, photos, "", findings)]
        yield from (("voc0712_det", images), ("voc2007", images))
    if is_file(annotation_file(root, "val")):
        content = read_coco(annotation_file(root, "val"), findings)
        yield "coco2017", [image_folder(root, "val") / image.file_name for image in content.images.values()]
    street = root / check_cityscapes.FOLDER
    if (street / "leftImg8bit" / "val").is_dir():
        frames = cityscapes.list_frames(street / "leftImg8bit" / "val", street / "gtFine" / "val", findings)
        yield "cityscapes", [frame.image for frame in frames]
    for name in (davis.DAVIS_2016, davis.DAVIS_2017):
        if (root / davis.FOLDER / "JPEGImages" / "480p").is_dir():
            yield name, [frame for video in davis.list_videos(root, name, findings) for frame in video.frames]
    if (root / jhmdb.FOLDER).is_dir():
        yield jhmdb.JHMDB, [frame for clip in jhmdb.list_clips(root, findings) for frame in clip.frames]
    if (root / vip.FOLDER).is_dir():
        yield vip.VIP, [frame for video in vip.list_parts(root, findings) for frame in video.frames]
    if is_file(lvis.annotation_file(root, "val")):
        whole = lvis.read_lvis(lvis.annotation_file(root, "val"), findings).coco
        yield lvis.NAME, [root / "coco" / image.file_name for image in whole.images.values()]
    for name, lists in classified.TREES.items():
        if all(is_file(root / classified.FOLDER / listed) for listed in lists.values()):
            yield name, classified.list_images(root, name, "val", findings)
    for standard in (STANDARD[name] for name in (ade20k.NAME, *NAMED) if name not in classified.TREES):
        parts = [part for part in standard.every_part() if part.role == "images" and part.split == "val"]
        yield standard.name, [path for part in parts for path in part.files(root)]
