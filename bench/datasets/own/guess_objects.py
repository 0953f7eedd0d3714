"""Guesses descriptions of folders with objects: COCO files, VOC's XML, YOLO's text."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final
from xml.etree import ElementTree

import yaml

from bench.datasets.coco import LONGEST_FILE, CocoFile, read_coco
from bench.datasets.own.description import DESCRIPTION
from bench.datasets.own.guess import Guess, class_names, match, role
from bench.datasets.own.objects import is_polygon
from bench.datasets.own.pictures import files_below
from bench.datasets.own.unmatched import yolo_lines
from bench.datasets.report import Findings
from bench.datasets.voc import LONGEST_FILE as LONGEST_XML
from bench.errors import BenchError
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.files import read_bounded
from leaderboard.base.printable import printable_name

_LONGEST_YAML: Final = 2**20
_LOOKED_AT: Final = 200
"""Number of images whose place is looked up."""


def coco(folder: Path, images: list[str]) -> Guess | None:
    """A data set with COCO files, or None."""
    files = {name: content for name, content in _coco_files(folder) if content.images and content.objects}
    if not files:
        return None
    chosen: dict[str, str] = {}
    for name in sorted(files, key=lambda name: ("instance" not in PurePosixPath(name).name, name)):
        chosen.setdefault(role(name), name)
    by_name: dict[str, list[str]] = defaultdict(list)
    for image in images:
        by_name[PurePosixPath(image).name].append(image)
    names: dict[int, str] = {}
    used: set[int] = set()
    notes = []
    for name in chosen.values():
        content = files[name]
        used.update(item.category_id for item in content.objects)
        for number, label in content.categories.items():
            if names.setdefault(number, label) != label:
                raise BenchError(
                    f"{folder / name}: category {number} is {printable_name(label)}, in another file "
                    f"{printable_name(names[number])}: number the categories of both files alike"
                )
    unused = [printable_name(names[number]) for number in names if number not in used]
    if unused:
        notes.append(f"Categories without an object are left out: {', '.join(unused)}.")
    parts = {
        part: {"images": _folder_of(files[name], by_name, part, name), "annotations": name}
        for part, name in chosen.items()
    }
    notes += [f"Not used: {name}." for name in files if name not in chosen.values()]
    return Guess("coco", parts, {key: names[key] for key in sorted(names) if key in used}, notes=notes)


def voc(folder: Path, images: list[str]) -> Guess | None:
    """A data set with VOC's XML files, or None."""
    labels: set[str] = set()
    found = []
    for name in files_below(folder, (".xml",)):
        try:
            tree = ElementTree.fromstring(read_bounded(folder / name, LONGEST_XML))
        except (ElementTree.ParseError, DenseBenchError, OSError, ValueError, LookupError):
            continue  # the check reports it
        if tree.tag == "annotation":
            found.append(name)
            labels.update((item.findtext("name") or "").strip() for item in tree.findall("object"))
    parts = match(images, found, lambda name: str(PurePosixPath(name).with_suffix("")))
    if not parts or not labels:
        return None
    if set(parts) == {""}:
        parts = _with_lists(folder, parts[""])
    return Guess("voc", parts, dict(enumerate(sorted(labels))))


def yolo(folder: Path, images: list[str]) -> Guess | None:
    """A data set with YOLO's text files, or None."""
    texts = {name: lines for name in files_below(folder, (".txt",)) if (lines := yolo_lines(folder / name)) is not None}
    parts = match(images, texts, lambda name: str(PurePosixPath(name).with_suffix("")))
    if not parts:
        return None
    _refuse_polygons(folder, texts, {where["annotations"] for where in parts.values()})
    used = {int(line[0]) for lines in texts.values() for line in lines}
    names = _yolo_names(folder) or dict(enumerate(class_names(folder)))
    unnamed = [key for key in sorted(used) if key not in names]
    notes = [f"No name was found for {', '.join(map(str, unnamed))}: write it."] if unnamed else []
    classes = {key: names.get(key, f"class_{key}") for key in sorted({*names, *used})}
    return Guess("yolo", parts, classes, notes=notes)


def _refuse_polygons(folder: Path, texts: Mapping[str, list[list[float]]], used: set[str]) -> None:
    """Raise BenchError if texts in the folders that are used hold polygons: no description makes them boxes."""
    of_parts = {
        text: lines for text, lines in texts.items() if any(PurePosixPath(text).is_relative_to(where) for where in used)
    }
    polygons = {text: number for text, lines in of_parts.items() if (number := sum(map(is_polygon, lines)))}
    if polygons:
        raise BenchError(
            f"{folder}: {sum(polygons.values()):,} of {sum(map(len, of_parts.values())):,} objects in YOLO's text are "
            f"polygons, such as those in {next(iter(polygons))}: convert them to boxes (class, x and y of the center, "
            "width, height), or to COCO's JSON, which keeps the masks"
        )


def _coco_files(folder: Path) -> Iterator[tuple[str, CocoFile]]:
    """Files that hold COCO's three lists, with what can be used of each."""
    for name in files_below(folder, (".json",)):
        try:
            content = json.loads(read_bounded(folder / name, LONGEST_FILE))
        except (DenseBenchError, OSError, ValueError, RecursionError, MemoryError):
            continue  # no annotations
        if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in _LISTS):
            yield name, read_coco(folder / name, Findings(folder), folders=True)


_LISTS: Final = ("images", "annotations", "categories")


def _folder_of(content: CocoFile, by_name: dict[str, list[str]], part: str, file: str) -> str:
    """The folder below which most images of a COCO file lie."""
    votes: Counter[str] = Counter()
    for image in list(content.images.values())[:_LOOKED_AT]:
        for path in by_name.get(PurePosixPath(image.file_name).name, ()):
            if f"/{path}".endswith(f"/{image.file_name}"):
                votes[path.removesuffix(image.file_name).rstrip("/") or "."] += 1
    if not votes:
        return str(PurePosixPath(file).parent)
    near = PurePosixPath(file).parts
    return max(votes, key=lambda one: (votes[one], role(one) == part, len(set(PurePosixPath(one).parts) & set(near))))


def _with_lists(folder: Path, where: dict[str, str]) -> dict[str, dict[str, str]]:
    """The parts that VOC's lists name, where there are some."""
    lists = {
        role(PurePosixPath(name).name): name
        for name in sorted(files_below(folder, (".txt",)), key=lambda name: "Main" in name)  # VOC's lists of boxes win
        if PurePosixPath(name).stem in ("train", "val", "test")
    }
    if not {"train", "val"} <= lists.keys():
        return {"": where}
    return {part: {**where, "list": lists[part]} for part in ("train", "val")}


def _yolo_names(folder: Path) -> dict[int, str]:
    """The names in the data set's YAML file, `names: [a, b]` or `names: {0: a, 1: b}`; none if there is none."""
    for name in files_below(folder, (".yaml", ".yml")):
        if PurePosixPath(name).name == DESCRIPTION:
            continue
        try:
            content: Any = yaml.safe_load(read_bounded(folder / name, _LONGEST_YAML))
        except (DenseBenchError, OSError, ValueError, yaml.YAMLError, RecursionError):
            continue
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if isinstance(names, dict) and names and all(type(key) is int for key in names):
            return {key: str(label) for key, label in names.items()}
    return {}
