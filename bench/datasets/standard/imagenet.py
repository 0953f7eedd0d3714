"""ImageNet-1k's folders of classes, its usual 1 % and 10 %, and ImageNet-LT.

1 % and 10 %: the lists of SimCLR's repository (`imagenet_subsets`), with the lengths and sha256 of TensorFlow Datasets
(`url_checksums/imagenet2012_subset.txt`). ImageNet-LT (Liu et al., CVPR 2019): the lists of the authors, which
classifier-balancing (Kang et al., ICLR 2020) repeats under a BSD license; the sha256 of val and test are those of its
files.
Numbers of images: ILSVRC 2012 and the lists. The images need an account.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from bench.datasets.standard.convert import required_lines, write_lines
from bench.datasets.standard.table import Archive, Conversion, Part, Progress, Standard
from bench.errors import BenchError

_SIMCLR: Final = "https://raw.githubusercontent.com/google-research/simclr/master/imagenet_subsets"
_LT: Final = "https://raw.githubusercontent.com/facebookresearch/classifier-balancing/main/data/ImageNet_LT"
_SUBSETS: Final = (
    ("1percent", 12_811, 260_323, "71e82a48ba78252683ae334c4d019ebd5c6e855b9599c1389fbe83eb9549cf17"),
    ("10percent", 128_116, 2_603_168, "6d09de11e7bdaf5b1f3b1f249b6183695f97310cdd20f0c03e7235b6b9392091"),
)
_LONG_TAILED: Final = (
    ("train", 115_846, ""),
    ("val", 20_000, "9af7ba688acf9532ff5845a8fb14a1e97fdc4c51ac48bc72c08ea9c3f7ff142e"),
    ("test", 50_000, "d1590191cf8a71fada7b1aaedaa2d139a2aea93ff2f1b755319d0bd8dbaa55d5"),
)

IMAGENET: Final = Standard(
    name="imagenet",
    title="ImageNet-1k (folders of classes)",
    archives=(),
    parts=(
        Part("images of train", "imagenet/train/*/*.JPEG", 1_281_167, "images", "train"),
        Part("images of val", "imagenet/val/*/*.JPEG", 50_000, "images", "val"),
    ),
    terms="https://www.image-net.org/download.php",
    register="https://www.image-net.org/ (ILSVRC2012; a folder for each class below imagenet/train and imagenet/val)",
)


def _to_paths(root: Path, progress: Progress, name: str) -> None:
    """Write a list of SimCLR as one that `densebench pretrain --data` reads: paths below `imagenet/`."""
    lines = required_lines(root / f"imagenet/lists/{name}.txt")
    wrong = next((line for line in lines if "_" not in line or "/" in line), None)
    if wrong is not None:
        raise BenchError(f"imagenet/lists/{name}.txt: {wrong!r} is no name such as n01440764_10026.JPEG")
    write_lines(root / f"imagenet/train-{name}.txt", (f"train/{line.split('_')[0]}/{line}" for line in lines))
    progress(1, 1)


IMAGENET_SUBSETS: Final = Standard(
    name="imagenet-subsets",
    title="ImageNet's usual 1 % and 10 % (lists)",
    archives=tuple(
        Archive(f"{name}.txt", "imagenet/lists", f"{_SIMCLR}/{name}.txt", size, f"sha256:{digest}", plain=True)
        for name, _, size, digest in _SUBSETS
    ),
    parts=tuple(
        Part(f"list {name}", f"imagenet/lists/{name}.txt", count, "list", archive=f"{name}.txt", sha256=digest)
        for name, count, _, digest in _SUBSETS
    ),
    conversions=tuple(
        Conversion(
            f"list {name} as paths",
            partial(_to_paths, name=name),
            (Part(f"paths of {name}", f"imagenet/train-{name}.txt", count, "list"),),
        )
        for name, count, *_ in _SUBSETS
    ),
    terms="https://github.com/google-research/simclr/blob/master/LICENSE",
)
IMAGENET_LT: Final = Standard(
    name="imagenet-lt",
    title="ImageNet-LT (long-tailed lists)",
    archives=tuple(
        Archive(
            f"ImageNet_LT_{split}.txt",
            "imagenet",
            f"{_LT}/ImageNet_LT_{split}.txt",
            digest=f"sha256:{digest}" if digest else "",
            plain=True,
        )
        for split, _, digest in _LONG_TAILED
    ),
    parts=tuple(
        Part(
            f"list {split}",
            f"imagenet/ImageNet_LT_{split}.txt",
            count,
            "list",
            archive=f"ImageNet_LT_{split}.txt",
            sha256=digest,
        )
        for split, count, digest in _LONG_TAILED
    ),
    terms="https://github.com/zhmiao/OpenLongTailRecognition-OLTR/blob/master/LICENSE",
)
