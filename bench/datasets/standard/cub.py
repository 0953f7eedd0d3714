"""Caltech-UCSD Birds 200-2011 with its segmentations (Wah et al., 2011), for foreground segmentation.

Addresses and md5: CaltechDATA (records 65de6-vp158 and w9d68-gec53); lengths and sha256: TensorFlow Datasets
(`url_checksums/caltech_birds2011.txt`). Numbers: the data set's `images.txt` and `train_test_split.txt` (5,994 images
of train, 5,794 of test). A mask is gray: the brighter a pixel, the more annotators put it on the bird.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.datasets.standard.convert import required_lines, write_lines
from bench.datasets.standard.table import Archive, Conversion, Part, Progress, Side, Standard
from bench.errors import BenchError

_FOLDER: Final = "CUB_200_2011"
_IMAGES: Final = "CUB_200_2011.tgz"
_MASKS: Final = "segmentations.tgz"
_SPLITS: Final[tuple[tuple[Side, int], ...]] = (("train", 5_994), ("val", 5_794))


def _list(root: Path, progress: Progress) -> None:
    """Write a list of each split, test being called val: `CLASS/IMAGE` without an ending."""
    folder = root / _FOLDER
    names = _columns(folder / "images.txt")
    flags = _columns(folder / "train_test_split.txt")
    if names.keys() != flags.keys() or not set(flags.values()) <= {"0", "1"}:
        raise BenchError(f"{folder}: images.txt and train_test_split.txt do not name the same images")
    for split, flag in (("train", "1"), ("val", "0")):
        stems = [str(Path(names[key]).with_suffix("")) for key in names if flags[key] == flag]
        write_lines(folder / f"lists/{split}.txt", stems)
    progress(1, 1)


def _columns(path: Path) -> dict[str, str]:
    """The second column of a file of two columns, by the first."""
    rows = [line.split(" ") for line in required_lines(path)]
    if any(len(row) != 2 for row in rows):
        raise BenchError(f"{path} has lines of other than two columns")
    return {row[0]: row[1] for row in rows}


def _of_split(split: Side, count: int) -> tuple[Part, ...]:
    names = f"{_FOLDER}/lists/{split}.txt"
    return (
        Part(f"list {split}", names, count, "list", split),
        Part(f"images of {split}", f"{_FOLDER}/images/{{}}.jpg", count, "images", split, names),
        Part(f"masks of {split}", f"{_FOLDER}/segmentations/{{}}.png", count, "masks", split, names),
    )


CUB: Final = Standard(
    name="cub200",
    title="CUB-200-2011 (foreground of birds)",
    archives=(
        Archive(
            _IMAGES,
            "",
            f"https://data.caltech.edu/records/65de6-vp158/files/{_IMAGES}",
            1_150_585_339,
            "sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            members=f"{_FOLDER}/*",
        ),
        Archive(
            _MASKS,
            _FOLDER,
            f"https://data.caltech.edu/records/w9d68-gec53/files/{_MASKS}",
            39_272_883,
            "sha256:dc77f6cffea0cbe2e41d4201115c8f29a6320ecb04fffd2444f51b8066e4b84f",
        ),
    ),
    parts=(
        Part("images", f"{_FOLDER}/images/*/*.jpg", 11_788, archive=_IMAGES),
        Part("list images.txt", f"{_FOLDER}/images.txt", 11_788, "list", archive=_IMAGES),
        Part("list train_test_split.txt", f"{_FOLDER}/train_test_split.txt", 11_788, "list", archive=_IMAGES),
        Part("masks", f"{_FOLDER}/segmentations/*/*.png", 11_788, archive=_MASKS),
    ),
    conversions=(Conversion("lists of train and test", _list, tuple(p for s in _SPLITS for p in _of_split(*s))),),
    terms="https://data.caltech.edu/records/65de6-vp158",
)
