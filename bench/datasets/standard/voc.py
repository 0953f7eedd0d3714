"""PASCAL VOC 2007 and 2012, and the masks of the Semantic Boundaries Dataset (SBD; Hariharan et al., ICCV 2011).

Addresses, and the md5 of SBD: `torchvision.datasets.voc` and `.sbd`; lengths and sha256 of VOC: TensorFlow Datasets
(`url_checksums/voc.txt`). Numbers of images: the challenges' development kits; of SBD: its `train.txt` and `val.txt`,
8,498 + 2,857. The 10,582 of train_aug are the images of SBD and of VOC's train without those of VOC's val, as in
mmsegmentation's `voc_aug.py`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.datasets.names import VOC_CLASSES, VOID
from bench.datasets.standard.convert import convert_files, read_mat, required_lines, save_labels, write_lines
from bench.datasets.standard.table import Archive, Conversion, Part, Progress, Standard
from bench.errors import BenchError

_HOST: Final = "https://thor.robots.ox.ac.uk/pascal/VOC"
_VOC2012: Final = "VOCdevkit/VOC2012"
_LISTS: Final = f"{_VOC2012}/ImageSets/Segmentation"


def _of_year(year: str, archive: str, lists: tuple[tuple[str, int], ...]) -> tuple[Part, ...]:
    """Lists, images and boxes of one archive of VOC."""
    folder = f"VOCdevkit/VOC{year}"
    parts = []
    for name, count in lists:
        listed = f"{folder}/ImageSets/Main/{name}.txt"
        parts += [
            Part(f"list {name}", listed, count, "list", archive=archive),
            Part(f"images of {name}", f"{folder}/JPEGImages/{{}}.jpg", count, "images", names=listed, archive=archive),
            Part(f"boxes of {name}", f"{folder}/Annotations/{{}}.xml", count, names=listed, archive=archive),
        ]
    return tuple(parts)


_TRAINVAL_2007: Final = "VOCtrainval_06-Nov-2007.tar"
_TEST_2007: Final = "VOCtest_06-Nov-2007.tar"
VOC2007: Final = Standard(
    name="voc2007",
    title="PASCAL VOC 2007 (detection; image classification)",
    archives=(
        Archive(
            _TRAINVAL_2007,
            "",
            f"{_HOST}/voc2007/{_TRAINVAL_2007}",
            460_032_000,
            "sha256:7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
        ),
        Archive(
            _TEST_2007,
            "",
            f"{_HOST}/voc2007/{_TEST_2007}",
            451_020_800,
            "sha256:6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
        ),
    ),
    parts=(
        *_of_year("2007", _TRAINVAL_2007, (("trainval", 5_011),)),
        *_of_year("2007", _TEST_2007, (("test", 4_952),)),
    ),
    terms="http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
)

_TRAINVAL_2012: Final = "VOCtrainval_11-May-2012.tar"
VOC2012: Final = Standard(
    name="voc2012",
    title="PASCAL VOC 2012 (detection and segmentation)",
    archives=(
        Archive(
            _TRAINVAL_2012,
            "",
            f"{_HOST}/voc2012/{_TRAINVAL_2012}",
            1_999_639_040,
            "sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        ),
    ),
    parts=(
        *_of_year("2012", _TRAINVAL_2012, (("train", 5_717), ("val", 5_823))),
        Part("list trainval", f"{_VOC2012}/ImageSets/Main/trainval.txt", 11_540, "list", archive=_TRAINVAL_2012),
        *(
            part
            for name, count in (("train", 1_464), ("val", 1_449))
            for part in (
                Part(f"list {name} of segmentation", f"{_LISTS}/{name}.txt", count, "list", archive=_TRAINVAL_2012),
                Part(
                    f"masks of {name}",
                    f"{_VOC2012}/SegmentationClass/{{}}.png",
                    count,
                    "masks",
                    names=f"{_LISTS}/{name}.txt",
                    archive=_TRAINVAL_2012,
                ),
            )
        ),
    ),
    terms="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
)


def read_sbd_mask(path: Path) -> npt.NDArray[np.uint8]:
    """The labels (H, W) of a file of SBD's `cls`: 0 for background, 1 to 20 for VOC's classes.

    Raises:
        BenchError: it is damaged or holds something else.
    """
    content = read_mat(path)
    try:
        labels: npt.NDArray[Any] = content["GTcls"][0, 0]["Segmentation"]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise BenchError(f"{path} holds no GTcls.Segmentation, as the files of SBD's dataset/cls do") from error
    if labels.ndim != 2 or labels.dtype.kind not in "iuf" or not np.isin(labels, (*range(21), VOID)).all():
        raise BenchError(f"{path}: its Segmentation is no map of labels 0 to {len(VOC_CLASSES)}")
    return labels.astype(np.uint8)


def _mask(path: Path) -> bytes:
    return save_labels(read_sbd_mask(path))


def _list_augmented(root: Path, progress: Progress) -> None:
    """Write `trainaug.txt`, sorted: the images of SBD and of VOC's train without those of VOC's val."""
    folder = root / _LISTS
    own, held_out = (required_lines(folder / f"{name}.txt") for name in ("train", "val"))
    sbd = [line for name in ("train", "val") for line in required_lines(root / f"sbd/dataset/{name}.txt")]
    write_lines(folder / "trainaug.txt", sorted({*own, *sbd} - {*held_out}))
    progress(1, 1)


_BENCHMARK: Final = "benchmark.tgz"
SBD: Final = Standard(
    name="sbd",
    title="SBD's masks for VOC 2012 (train_aug)",
    archives=(
        Archive(
            _BENCHMARK,
            "sbd",
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
            digest="md5:82b4d87ceb2ed10f6038a1cba92111cb",
            members="benchmark_RELEASE/dataset/[ctv]*",  # cls/, train.txt and val.txt, but neither img/ nor inst/
            strip="benchmark_RELEASE/",
        ),
    ),
    parts=(
        Part("masks (.mat)", "sbd/dataset/cls/*.mat", 11_355, archive=_BENCHMARK),
        Part("list train", "sbd/dataset/train.txt", 8_498, "list", archive=_BENCHMARK),
        Part("list val", "sbd/dataset/val.txt", 2_857, "list", archive=_BENCHMARK),
    ),
    conversions=(
        Conversion(
            "SBD's .mat files to label images",
            partial(
                convert_files,
                source="sbd/dataset/cls/*.mat",
                target=f"{_VOC2012}/SegmentationClassAug",
                suffix=".png",
                convert=_mask,
            ),
            (Part("masks (.png)", f"{_VOC2012}/SegmentationClassAug/*.png", 11_355, "masks"),),
        ),
        Conversion(
            "list of train_aug", _list_augmented, (Part("list trainaug", f"{_LISTS}/trainaug.txt", 10_582, "list"),)
        ),
    ),
    terms="http://home.bharathh.info/pubs/codes/SBD/download.html",
    needs=("voc2012",),
)
