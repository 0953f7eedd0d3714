"""Writes small data sets in the formats of VOC, COCO 2017 and Cityscapes, and images for pretraining.

All show the same kinds of objects (`scene`, `street` in this package). Every image depends on (seed, data set, split,
number) alone, so the same call gives the same bytes on the same machine and versions of numpy, OpenCV and Pillow.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as PillowImage

from bench.datasets.cityscapes import LABEL as TRAIN_IDS
from bench.datasets.cityscapes_instances import LABEL as INSTANCE_IDS
from bench.datasets.masks import load_labels
from bench.datasets.synthetic.pretraining import STREET_SIZE, pretraining_picture
from bench.datasets.synthetic.scene import scene
from bench.datasets.synthetic.stage import Image
from bench.datasets.synthetic.street import instance_ids, street
from bench.datasets.synthetic.write_coco import CocoWriter
from bench.datasets.synthetic.write_voc import VocWriter
from bench.errors import BenchError
from leaderboard.base.files import write_atomic

GENERATOR_VERSION: Final = 1
RECORD: Final = "generated.json"
"""Name of the file with the parameters of the call, which is written last."""

VOC_KINDS: Final = ("aeroplane", "bottle", "cat", "cow", "person", "sheep")
COCO_KINDS: Final = {
    "person": 1, "aeroplane": 5, "cat": 17, "sheep": 20, "zebra": 24, "giraffe": 25, "umbrella": 28, "bottle": 44,
}  # fmt: skip
"""COCO's category id of each generated kind."""

_SIZES: Final = ((160, 128), (176, 128), (160, 120), (128, 160), (192, 144), (144, 144))
_JPEG_QUALITY: Final = 92
_STREAMS: Final = {"voc": 1, "coco": 2, "cityscapes": 3, "pretrain": 4, "voc2007": 5, "sbd": 6}
_CITIES: Final = {"train": ("arden", "brookvale"), "val": ("calder",)}


def generate(
    root: Path,
    *,
    seed: int = 0,
    train: int = 200,
    val: int = 80,
    pretrain: int = 1500,
    paper: bool = False,
    zoom: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a data root: `VOCdevkit/VOC2012`, `coco`, `cityscapes` and `pretrain/images`.

    VOC and COCO get `train` and `val` images, Cityscapes (with trainIds and instance ids) gets half of each, and
    `pretrain` gets unlabeled images. With `paper`, the data for track paper are added, which changes none of these
    files: VOC 2007 (`train` images of trainval and `val` of test), and `train` more images of VOC 2012 with masks like
    SBD's. Images that are not for pretraining are `zoom` times as wide and as high, up to the size of the published
    ones. `progress` is called with (images done, images in all). The root appears only when it is complete; if it
    already holds the data of the same call, only instance ids that it lacks, as older ones do, are written.

    Raises `BenchError` for counts that are too small, for a root that holds anything else, where other versions of
    libraries drew the streets that lack instance ids, and where the root cannot be written.
    """
    if train < 2 or val < 2 or pretrain < 0:
        raise BenchError("generated data needs at least 2 train and 2 val images, and no negative count")
    if zoom < 1:
        raise BenchError(f"zoom is {zoom}: it must be 1 or more")
    if seed < 0:
        raise BenchError(f"seed is {seed}: it must be 0 or more")
    record = {"generator": GENERATOR_VERSION, "seed": seed, "train": train, "val": val, "pretrain": pretrain}
    record |= ({"paper": True} if paper else {}) | ({"zoom": zoom} if zoom > 1 else {})
    root = root.absolute()
    if _is_done(root, record):
        for split, count in (("train", train), ("val", val)):
            _complete_cityscapes(root, seed, split, (count + 1) // 2, zoom)
        return
    done, total = 0, 2 * (train + val) + (train + 1) // 2 + (val + 1) // 2 + pretrain
    total += (2 * train + val) * paper

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=".partial", dir=root.parent))
    except OSError as error:
        raise BenchError(f"cannot write to {root.parent}: {error.strerror}; choose another folder") from error
    try:
        for split, count in (("train", train), ("val", val)):
            _voc(folder, seed, split, count, zoom, tick)
            _coco(folder, seed, split, count, zoom, tick)
            _cityscapes(folder, seed, split, (count + 1) // 2, zoom, tick)
        if paper:
            _voc2007(folder, seed, train, val, zoom, tick)
            _augmented(folder, seed, train, zoom, tick)
        _pretrain(folder, seed, pretrain, tick)
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        folder.chmod(0o755)  # only its owner may read a temporary folder
        folder.replace(root)
    except OSError as error:
        raise BenchError(f"cannot write generated data to {root}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_done(root: Path, record: dict[str, int]) -> bool:
    """Whether `root` already holds these data; an error if it holds anything else."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise BenchError(f"{root} is a file: name a folder that does not exist yet")
    try:
        found = json.loads((root / RECORD).read_text())
    except FileNotFoundError:
        if any(root.iterdir()):
            raise BenchError(f"{root} is not empty and was not generated: choose another folder") from None
        return False
    except ValueError:
        raise BenchError(f"{root / RECORD} is damaged: delete {root}, or choose another folder") from None
    if found != record:
        raise BenchError(f"{root} holds data generated as {found}, not {record}: delete it or choose another folder")
    return True


def _rng(seed: int, stream: str, split: str, index: int) -> np.random.Generator:
    return np.random.default_rng((seed, _STREAMS[stream], {"train": 0, "val": 1}[split], index))


def _drawn_size(rng: np.random.Generator, zoom: int) -> tuple[int, int]:
    return _times(_SIZES[int(rng.integers(len(_SIZES)))], zoom)


def _times(size: tuple[int, int], zoom: int) -> tuple[int, int]:
    return size[0] * zoom, size[1] * zoom


def save_jpeg(image: Image, path: Path) -> None:
    """Write RGB (H, W, 3) as a JPEG of fixed quality."""
    PillowImage.fromarray(image).save(path, quality=_JPEG_QUALITY)


def _voc(root: Path, seed: int, split: str, count: int, zoom: int, tick: Callable[[], None]) -> None:
    writer = VocWriter(root / "VOCdevkit" / "VOC2012")
    first = 0 if split == "train" else 500_000
    _voc_images(writer, seed, ("voc", split), [f"{2007 + i % 6}_{first + i:06d}" for i in range(count)], zoom, tick)
    writer.finish(split)


def _voc2007(root: Path, seed: int, train: int, val: int, zoom: int, tick: Callable[[], None]) -> None:
    writer, first = VocWriter(root / "VOCdevkit" / "VOC2007"), 1
    for split, part, count in (("train", "trainval", train), ("val", "test", val)):
        _voc_images(writer, seed, ("voc2007", split), [f"{first + i:06d}" for i in range(count)], zoom, tick)
        writer.finish(part, together=None)
        first += count


def _voc_images(
    writer: VocWriter, seed: int, part: tuple[str, str], names: Sequence[str], zoom: int, tick: Callable[[], None]
) -> None:
    """One image with its annotations per name; what it shows follows from `seed`, `part` and its place."""
    for index, name in enumerate(names):
        rng = _rng(seed, *part, index)
        picture = scene(rng, _drawn_size(rng, zoom), VOC_KINDS)
        save_jpeg(picture.image, writer.image_path(name))
        writer.add(name, picture)
        tick()


def _augmented(root: Path, seed: int, count: int, zoom: int, tick: Callable[[], None]) -> None:
    writer = VocWriter(root / "VOCdevkit" / "VOC2012")
    for index in range(count):
        rng = _rng(seed, "sbd", "train", index)
        picture = scene(rng, _drawn_size(rng, zoom), VOC_KINDS)
        name = f"{2008 + index % 4}_{800_000 + index:06d}"
        save_jpeg(picture.image, writer.image_path(name))
        writer.add_augmented(name, picture)
        tick()
    writer.finish_augmented()


def _coco(root: Path, seed: int, split: str, count: int, zoom: int, tick: Callable[[], None]) -> None:
    writer = CocoWriter(root / "coco", split, COCO_KINDS)
    for index in range(count):
        rng = _rng(seed, "coco", split, index)
        crowd = bool(index == 0 or rng.random() < 0.08)
        picture = scene(rng, _drawn_size(rng, zoom), tuple(COCO_KINDS), crowd=crowd)
        image_id = index + 1 + (0 if split == "train" else 500_000)
        save_jpeg(picture.image, writer.image_path(image_id))
        writer.add(image_id, picture)
        tick()
    writer.finish()


def _cityscapes(root: Path, seed: int, split: str, count: int, zoom: int, tick: Callable[[], None]) -> None:
    for index in range(count):
        picture = street(_rng(seed, "cityscapes", split, index), _times(STREET_SIZE, zoom))
        image, labels, ids = _street_files(root, split, index)
        image.parent.mkdir(parents=True, exist_ok=True)
        labels.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(picture.image).save(image)
        PillowImage.fromarray(picture.labels).save(labels)
        PillowImage.fromarray(instance_ids(picture)).save(ids)
        tick()


def _complete_cityscapes(root: Path, seed: int, split: str, count: int, zoom: int) -> None:
    """Write the instance ids that a root lacks because it was generated before they were."""
    for index in range(count):
        _, labels, ids = _street_files(root, split, index)
        if ids.exists():
            continue
        picture = street(_rng(seed, "cityscapes", split, index), _times(STREET_SIZE, zoom))
        if not np.array_equal(load_labels(labels), picture.labels):
            raise BenchError(
                f"{ids} is missing, and other versions of numpy or OpenCV drew its street: delete {root}, or choose "
                "another folder"
            )
        write_atomic(ids, partial(PillowImage.fromarray(instance_ids(picture)).save, format="PNG"))


def _street_files(root: Path, split: str, index: int) -> tuple[Path, Path, Path]:
    """The files of a street's image, trainIds and instance ids."""
    cities = _CITIES[split]
    city = cities[index % len(cities)]
    images, labels = (root / "cityscapes" / kind / split / city for kind in ("leftImg8bit", "gtFine"))
    stem = f"{city}_{index:06d}_000019"
    return images / f"{stem}_leftImg8bit.png", labels / f"{stem}{TRAIN_IDS}", labels / f"{stem}{INSTANCE_IDS}"


def _pretrain(root: Path, seed: int, count: int, tick: Callable[[], None]) -> None:
    folder = root / "pretrain" / "images"
    folder.mkdir(parents=True)
    for index in range(count):
        save_jpeg(pretraining_picture(_rng(seed, "pretrain", "train", index)).image, folder / f"{index:06d}.jpg")
        tick()


def sort_by_class(root: Path, folder: Path) -> None:
    """Write the images for pretraining of the generated data in `root` to `folder`, those of each class into a folder
    of its own, as training with labels needs them. A `folder` that exists is left as it is: it appears only complete.

    Raises `BenchError` where other versions of libraries drew the images, and where `folder` cannot be written.
    """
    if folder.exists():
        return
    record = json.loads((root / RECORD).read_text())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent) as parent:
            partial_folder = Path(parent) / folder.name
            for index in range(record["pretrain"]):
                name = f"{index:06d}.jpg"
                picture = pretraining_picture(_rng(record["seed"], "pretrain", "train", index))
                copy = partial_folder / picture.shows / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                save_jpeg(picture.image, copy)
                if copy.read_bytes() != (root / "pretrain" / "images" / name).read_bytes():
                    raise BenchError(
                        f"{root / 'pretrain' / 'images' / name}: other versions of numpy, OpenCV or Pillow drew it: "
                        f"delete {root}, or choose another folder"
                    )
            partial_folder.replace(folder)
    except OSError as error:
        raise BenchError(f"cannot sort images of {root} into {folder}: {error.strerror or error}") from error
