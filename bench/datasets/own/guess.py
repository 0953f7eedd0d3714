"""Guesses the description of a folder of images and annotations, for its user to correct.

The layout is found by what is in the files: COCO files by their lists, VOC's XML by its root, YOLO's text by lines of
five numbers, masks by images of few values. An image and its annotation have the same name; what their paths have in
common at the end is left out, and what differs is where each kind lies. Parts are found by the words train, val, valid,
validation, test in paths; where there is one alone, a fifth of the images is held out.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from bench.datasets.own.description import DESCRIPTION, Format
from bench.datasets.own.pictures import SUFFIXES, files_below
from bench.datasets.report import DatasetReport
from bench.errors import BenchError

HELD_OUT: Final = 0.2
_ROLES: Final = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

_MODES: Final = {"1": "1-bit", "I;16": "16-bit", "I": "16-bit", "LA": "grey with opacity"}
"""Words for Pillow's modes of pictures; the others, such as RGB, are common words."""


@dataclass
class Guess:
    """What a folder seems to be."""

    format: Format
    parts: dict[str, dict[str, str]]
    """Where the files of `train`, `val` and `test` are, as a description says it; `` for files of no part."""
    classes: dict[int, str]
    ignore: tuple[int | str, ...] = ()
    mask_ending: str = ".png"
    notes: list[str] = field(default_factory=list)
    """What the user should look at, one line each."""


def guess(folder: Path) -> Guess:
    """What the files below `folder` seem to be.

    Raises:
        BenchError: no images with annotations in a format that is read are found.
    """
    from bench.datasets.own import guess_masks, guess_objects

    if not folder.is_dir():
        raise BenchError(f"{folder} is not a folder: name the one that holds images and annotations")
    images = list(files_below(folder, SUFFIXES))
    if not images:
        raise BenchError(f"{folder} holds no image ({', '.join(SUFFIXES)}): name the folder that holds the data")
    kinds: Sequence[Callable[[Path, list[str]], Guess | None]] = (
        guess_objects.coco,
        guess_objects.voc,
        guess_objects.yolo,
        guess_masks.masks,
    )
    found = next((one for one in (kind(folder, images) for kind in kinds) if one is not None), None)
    if found is None:
        if others := guess_masks.of_another_kind(folder, images):
            mode = guess_masks.mode_of_mask(folder / others[0])
            raise BenchError(
                f"{folder} has {len(images) - len(others):,} images and {len(others):,} PNGs with their names, such as "
                f"{others[0]}, that seem to be masks but are {_MODES.get(mode or '', mode)}: convert them to one 8-bit "
                "value per pixel (grey or palette PNG)"
            )
        raise BenchError(
            f"{folder} has {len(images):,} images, but no annotations that belong to them: read are COCO's JSON, VOC's "
            "XML, YOLO's text and masks (8-bit grey or palette PNG) with the names of the images. Images without any "
            "can be pretrained on (`--images`), and what they give is evaluated on other data"
        )
    return found


def role(path: str) -> str:
    """The part that a word in a path names, the last one first: train, val, test or none (empty)."""
    for word in reversed(re.split(r"[^a-z]+", path.lower())):
        if word in _ROLES:
            return _ROLES[word]
    return ""


def match(images: Iterable[str], annotations: Iterable[str], bare: Callable[[str], str]) -> dict[str, dict[str, str]]:
    """Where images and annotations of the same names lie, by part: folders of each; the most frequent ones count.

    `bare` is an annotation's path without its ending, as its image has it.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for image in images:
        by_name[PurePosixPath(image).stem].append(image)
    votes: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for annotation in annotations:
        path = bare(annotation)
        candidates = by_name.get(PurePosixPath(path).name, [])
        if candidates:
            image = max(candidates, key=lambda one: _likeness(one, path))
            part, where = _places(str(PurePosixPath(image).with_suffix("")), path)
            votes[part][where] += 1
    return {
        part: dict(zip(("images", "annotations"), found.most_common(1)[0][0], strict=True))
        for part, found in votes.items()
    }


def words(guessed: Guess, name: str, root: Path | None, found: DatasetReport | None = None) -> str:
    """The description as a text with comments; `root` is the folder of the files where it is not the description's.

    Of `found`, what a check has found in them, the comments tell how often each class occurs.
    """
    train, val, share, notes = _parts(guessed)
    said: list[str] = [
        "# Guessed by `densebench data describe`. Correct what is wrong, then run `densebench data check` on it.",
        *(f"# {note}" for note in (*guessed.notes, *notes)),
        f"name: {_value(name)}",
        f"format: {guessed.format}",
    ]
    said += [f"root: {_value(str(root))}"] if root is not None else []
    said += [f"train: {_value(train)}"]
    said += [f"val: {_value(val)}"] if val is not None else [f"val_share: {share}"]
    said += [f"mask_ending: {_value(guessed.mask_ending)}"] if guessed.mask_ending != ".png" else []
    said += ["classes:"]
    for key, label in guessed.classes.items():
        begin = f"- {_value(label)}" if guessed.format == "voc" else f"{key}: {_value(label)}"
        counts = [] if found is None else [split.histogram[label] for split in found.splits.values()]
        said.append(f"  {begin}" + (f"  # {sum(counts):,} {found.unit}" if found else ""))
    said += [f"ignore: {_value(list(guessed.ignore))}"] if guessed.ignore else []
    return "\n".join(said) + "\n"


def name_of(folder: Path) -> str:
    """A name for the data in a folder."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", folder.resolve().name).lstrip("._+-")[:40] or "own-data"


def class_names(folder: Path) -> list[str]:
    """The lines of a file `classes.txt` or the like in a folder; none if there is none."""
    for name in ("classes.txt", "labels.txt", "class_names.txt", "names.txt", "obj.names"):
        file = folder / name
        if file.is_file() and file.stat().st_size < 2**20:
            lines = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
            return [line for line in lines if line]
    return []


def _parts(guessed: Guess) -> tuple[dict[str, str], dict[str, str] | None, float | None, list[str]]:
    """Where train and val are, the share that is held out where val is missing, and notes."""
    parts = guessed.parts
    train = parts.get("train") or parts.get("") or next(iter(parts.values()))
    others = {part: where for part, where in parts.items() if where != train}
    if "val" in others:
        unused = ", ".join(where["images"] for part, where in others.items() if part != "val")
        return train, others["val"], None, [f"Not used: {unused}."] if unused else []
    if "test" in others:
        return train, others["test"], None, ["No part for validation was found: the test images are used for it."]
    return (
        train,
        None,
        HELD_OUT,
        [
            "No part for validation was found: a share of the images is held out, by the hashes of their names. Where",
            "several images show one scene (frames of a video), write lists of your own: `list` in train and in val.",
        ],
    )


def _likeness(image: str, annotation: str) -> tuple[int, int]:
    """How much of the paths is alike: words for parts, then words of any kind."""
    a, b = PurePosixPath(image).with_suffix("").parts, PurePosixPath(annotation).parts
    return int(role(image) == role(annotation)), len(set(a) & set(b))


def _places(image: str, annotation: str) -> tuple[str, tuple[str, str]]:
    """The part of an image and its annotation, and the folders of both, of which they have the rest in common."""
    a, b = PurePosixPath(image).parts, PurePosixPath(annotation).parts
    common = 1  # the name
    while common < min(len(a), len(b)) and a[-common - 1] == b[-common - 1] and not role(a[-common - 1]):
        common += 1
    places = ["/".join(parts[:-common]) or "." for parts in (a, b)]
    return role(places[0]) or role(places[1]), (places[0], places[1])


def _value(value: Any) -> str:
    """A value in one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip()


def describe(folder: Path, out: Path | None = None, name: str | None = None) -> tuple[Path, DatasetReport]:
    """Write the description that is guessed for `folder`, into the folder or to the file `out`, and check it.

    Returns the file and what the check has found. Comments count the classes if it has found no error.

    Raises:
        BenchError: there is a description already, or nothing that can be read is guessed.
        FileError: it cannot be written.
    """
    from bench.datasets.own.check import check_own
    from leaderboard.base.files import write_atomic

    file = folder / DESCRIPTION if out is None else out
    if file.exists():
        raise BenchError(f"{file} is there already: correct it, or remove it to have it guessed again")
    guessed = guess(folder)
    root = None if file.absolute().parent == folder.absolute() else folder.absolute()
    write_atomic(file, words(guessed, name or name_of(folder), root))
    report = check_own(file)
    if not report.errors:
        write_atomic(file, words(guessed, name or name_of(folder), root, report))
    return file, report
