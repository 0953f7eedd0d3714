"""COCO 2017, and what others annotated on its images: COCO-Stuff with 27 classes, and LVIS v1.

Addresses, lengths and sha256 of COCO and LVIS: TensorFlow Datasets (`url_checksums/coco.txt`, `lvis/checksums.tsv`).
COCO-Stuff (Caesar et al., CVPR 2018): its README. The 27 classes and the lists of images: Ji et al. (IIC, ICCV 2019),
whose repository has the table of classes (`util/out/fine_to_coarse_dict.pickle.txt`); the sha256 of the lists are those
of the copies in the repository of PiCIE (Cho et al., CVPR 2021). Numbers of images: the archives' lists; of LVIS: its
paper and web page (arXiv 1908.03195).
"""

from __future__ import annotations

import mmap
import re
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.datasets.names import COCO_CATEGORIES, VOID
from bench.datasets.standard.convert import convert_files, map_labels, write_lines
from bench.datasets.standard.table import Archive, Conversion, Part, Progress, Side, Standard
from bench.errors import BenchError

_HOST: Final = "http://images.cocodataset.org"
_TRAIN: Final = "train2017.zip"
_VAL: Final = "val2017.zip"
_BOXES: Final = "annotations_trainval2017.zip"
COCO2017: Final = Standard(
    name="coco2017",
    title="COCO 2017 (detection and instance segmentation)",
    archives=(
        Archive(
            _TRAIN,
            "coco",
            f"{_HOST}/zips/{_TRAIN}",
            19_336_861_798,
            "sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        ),
        Archive(
            _VAL,
            "coco",
            f"{_HOST}/zips/{_VAL}",
            815_585_330,
            "sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        ),
        Archive(
            _BOXES,
            "coco",
            f"{_HOST}/annotations/{_BOXES}",
            252_907_541,
            "sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        ),
    ),
    parts=(
        Part("images of train", "coco/train2017/*.jpg", 118_287, "images", "train", archive=_TRAIN),
        Part("images of val", "coco/val2017/*.jpg", 5_000, "images", "val", archive=_VAL),
        Part("objects of train", "coco/annotations/instances_train2017.json", 1, split="train", archive=_BOXES),
        Part("objects of val", "coco/annotations/instances_val2017.json", 1, split="val", archive=_BOXES),
    ),
    terms="https://cocodataset.org/#termsofuse",
)

_STUFF: Final = (
    ("ceiling", "102 103"),
    ("floor", "101 114 115 116 117 118"),
    ("food-stuff", "121 122 153 170"),
    ("furniture-stuff", "98 108 107 110 112 123 130 133 156 161 165"),
    ("raw material", "100 132 139 143"),
    ("textile", "92 93 104 105 109 131 137 141 152 167 168"),
    ("wall", "171 172 173 174 175 176 177"),
    ("window", "180 181"),
    ("building", "95 96 128 151 158 166"),
    ("ground", "111 125 126 136 140 144 145 147 149 154 159"),
    ("plant", "94 97 119 124 129 134 142 163 169"),
    ("sky", "106 157"),
    ("solid", "127 135 150 160 162 182"),
    ("structural", "99 113 138 146 164"),
    ("water", "120 148 155 178 179"),
)
"""The 15 classes of stuff, with the ids of COCO-Stuff's `labels.txt` (92 to 182) that each covers."""
_THINGS: Final = (
    "electronic", "appliance", "food", "furniture", "indoor", "kitchen",
    "accessory", "animal", "outdoor", "person", "sports", "vehicle",
)  # fmt: skip
"""The 12 classes of things, COCO's supercategories, in the order of IIC."""
_OTHER_THINGS: Final = {
    12: "outdoor", 26: "accessory", 29: "accessory", 30: "accessory", 45: "kitchen", 66: "furniture",
    68: "furniture", 69: "furniture", 71: "furniture", 83: "appliance", 91: "indoor",
}  # fmt: skip
"""Things of COCO's first list that COCO 2017 does not annotate, with their supercategories."""
COCO_STUFF_27: Final = (*_THINGS, *(name for name, _ in _STUFF))
"""The 27 classes of IIC; the index is the label."""


def stuff_table() -> npt.NDArray[np.uint8]:
    """The label among the 27 of each value of COCO-Stuff's stuffthingmaps, uint8 (256,); 255 where there is none.

    A value of those maps is the id of `labels.txt` minus 1 (COCO-Stuff's README: 0 to 181, and 255 for unlabeled).
    """
    groups = {number: group for number, (_, group) in COCO_CATEGORIES.items()} | _OTHER_THINGS
    groups |= {int(number): name for name, numbers in _STUFF for number in numbers.split()}
    table = np.full(256, VOID, np.uint8)
    for number, group in groups.items():
        table[number - 1] = COCO_STUFF_27.index(group)
    return table


def _to_27(path: Path) -> bytes:
    return map_labels(path, stuff_table())


_MAPS: Final = "stuffthingmaps_trainval2017.zip"
_CURATED: Final = "COCOStuff164kCurated.tar.gz"
_SPLITS: Final[tuple[tuple[Side, int, str], ...]] = (
    ("train", 49_629, "3b837594a81880a70f177afab906fc45147d8b9c2c4f51132f784e41941812f9"),
    ("val", 2_175, "7c629734c88f1a74bba6311e01d4d9fe976df84f07cb4fc86452ce5116e51655"),
)


def _curated(split: str) -> str:
    return f"coco/curated/{split}2017/Coco164kFull_Stuff_Coarse_7.txt"


COCO_STUFF: Final = Standard(
    name="cocostuff27",
    title="COCO-Stuff with 27 classes, the images of IIC and PiCIE",
    archives=(
        Archive(
            _MAPS,
            "coco/stuffthingmaps",
            f"http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/{_MAPS}",
        ),
        Archive(_CURATED, "coco", members="curated/*/Coco164kFull_Stuff_Coarse_7.txt"),
    ),
    parts=tuple(
        part
        for split, count, digest in _SPLITS
        for part in (
            Part(f"list {split}", _curated(split), count, "list", split, archive=_CURATED, sha256=digest),
            Part(f"images of {split}", f"coco/{split}2017/{{}}.jpg", count, "images", split, _curated(split)),
            Part(
                f"maps of {split}",
                f"coco/stuffthingmaps/{split}2017/{{}}.png",
                count,
                names=_curated(split),
                archive=_MAPS,
            ),
        )
    ),
    conversions=tuple(
        Conversion(
            f"maps of {split} to 27 classes",
            partial(
                convert_files,
                source=f"coco/stuffthingmaps/{split}2017/{{}}.png",
                names=_curated(split),
                target=f"coco/stuffthingmaps27/{split}2017",
                suffix=".png",
                convert=_to_27,
            ),
            (
                Part(
                    f"masks of {split}",
                    f"coco/stuffthingmaps27/{split}2017/{{}}.png",
                    count,
                    "masks",
                    split,
                    _curated(split),
                ),
            ),
        )
        for split, count, _ in _SPLITS
    ),
    terms="https://github.com/nightrome/cocostuff#licensing",
    by_hand="https://www.robots.ox.ac.uk/~xuji/datasets/COCOStuff164kCurated.tar.gz (lists of IIC)",
    needs=("coco2017",),
    labels={**dict(enumerate(COCO_STUFF_27)), VOID: "void"},
)

_IMAGE: Final = re.compile(rb'"coco_url":\s*"[^"]*/((?:train|val)2017/\d{12}\.jpg)"')
"""An image's address in LVIS's files, which says in which of COCO's folders it lies: val has images of both."""


def _list_lvis(root: Path, progress: Progress, split: str) -> None:
    """Write the images of a split as paths below `coco/`, in the order of LVIS's file.

    The file of train has 1.1 GB, of which a JSON reader makes ten: it is searched instead.
    """
    path = root / f"lvis/lvis_v1_{split}.json"
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            names = [found[1].decode() for found in _IMAGE.finditer(content)]
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read: {error}") from error
    if not names:
        raise BenchError(f"{path} names no image of COCO: it is not LVIS v1's file")
    write_lines(root / f"lvis/lists/{split}.txt", names)
    progress(1, 1)


_LVIS_HOST: Final = "https://s3-us-west-2.amazonaws.com/dl.fbaipublicfiles.com/LVIS"
_LVIS: Final[tuple[tuple[Side, int, int, str], ...]] = (
    ("train", 100_170, 350_264_821, "334a4caa374030a7817cf050364525e910f7960f9b6968cef47cffbf3893f8ba"),
    ("val", 19_809, 64_026_968, "5cae9a3c79aadb667550c2b5dcf7f4d86e059a41ec91ef690225b667e28e9ba5"),
)
LVIS: Final = Standard(
    name="lvis",
    title="LVIS v1 (instances of 1,203 classes on COCO's images)",
    archives=tuple(
        Archive(
            f"lvis_v1_{split}.json.zip",
            "lvis",
            f"{_LVIS_HOST}/lvis_v1_{split}.json.zip",
            size,
            f"sha256:{digest}",
        )
        for split, _, size, digest in _LVIS
    ),
    parts=tuple(
        Part(f"objects of {split}", f"lvis/lvis_v1_{split}.json", 1, split=split, archive=f"lvis_v1_{split}.json.zip")
        for split, *_ in _LVIS
    ),
    conversions=tuple(
        Conversion(
            f"list of the images of {split}",
            partial(_list_lvis, split=split),
            (
                Part(f"list {split}", f"lvis/lists/{split}.txt", count, "list", split),
                Part(f"images of {split}", "coco/{}", count, "images", split, f"lvis/lists/{split}.txt"),
            ),
        )
        for split, count, *_ in _LVIS
    ),
    terms="https://www.lvisdataset.org/dataset",
    needs=("coco2017",),
)
