"""A data set's files: each read once for its size, damage and hash; copies and repeated ids; the fingerprint."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.datasets.pixels import LARGEST_FILE, SLIMMEST, decode_pixels, first_line, quiet, turn
from bench.datasets.report import Findings, Split
from bench.errors import BenchError
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.files import describe_os_error, read_bounded
from pretrain.data.pictures import QUARTER_TURNS, open_picture, orientation

THOROUGH_BYTES: Final = 2**30
"""In data sets with at most this many bytes of images, every image is decoded and hashed; in larger ones only headers
are read."""
CONTENT_RULE: Final = "content-v1"
NAME_SIZE_RULE: Final = "image-name-and-size-v1"
NO_RULE: Final = "none"
"""The fingerprint rule of a data set without images: it has no fingerprint."""
SUFFIXES: Final = (".jpg", ".jpeg", ".png")
"""Endings of names of photos, in upper or lower case, where a data set finds photos by their names."""


def load_pixels(path: Path, turned: bool = False) -> npt.NDArray[np.uint8]:
    """The stored pixels of a picture, BGR (H, W, 3), for training and evaluation; `turned` as its EXIF orientation
    says.

    Raises:
        BenchError: it is missing or damaged.
    """
    if not is_file(path):
        raise BenchError(f"{path} {why_missing(path)}; check the data root with `densebench data check`")
    try:
        content = read_bounded(path, LARGEST_FILE)
        pixels = decode_pixels(content)
        if turned:
            with quiet(), open_picture(io.BytesIO(content)) as picture:
                pixels = turn(pixels, orientation(picture))
        return pixels
    except (DenseBenchError, OSError, ValueError) as error:
        raise BenchError(f"{path} is damaged: {error}; check the data root with `densebench data check`") from error


class ImageFiles:
    """The images of a data set: reads each once, reports what is missing or damaged."""

    def __init__(self, root: Path, paths: Iterable[Path], findings: Findings) -> None:
        self.root = root
        self.findings = findings
        self.bytes = {path: path.stat().st_size for path in paths if is_file(path)}
        self.thorough = sum(self.bytes.values()) <= THOROUGH_BYTES
        self.sha256: dict[Path, str] = {}
        self.orientations: dict[Path, int] = {}
        """EXIF orientations of the images that have one other than 1 (as stored)."""

    def size(self, path: Path) -> tuple[int, int] | None:
        """Width and height as stored; None, with the problem reported, if the image is missing or cannot be used."""
        name = self.findings.name(path)
        if path not in self.bytes:
            self.findings.error("missing images", f"{name} {why_missing(path)}")
            return None
        try:
            size = self._read(path)
        except Exception as error:  # damaged data makes decoders raise nearly anything
            self.findings.error("damaged images", f"{name} is damaged: {first_line(error)}")
            return None
        if max(size) > SLIMMEST * min(size):
            self.findings.error("images too slim", f"{name} is {by(size)}: one side is {SLIMMEST} times the other")
        return size

    def _read(self, path: Path) -> tuple[int, int]:
        if not self.thorough:
            with quiet(), open_picture(path) as image:
                self._note(path, orientation(image))
                return image.size
        content = read_bounded(path, LARGEST_FILE)
        self.sha256[path] = hashlib.sha256(content).hexdigest()
        with quiet(), open_picture(io.BytesIO(content)) as image:
            self._note(path, orientation(image))
            image.load()  # unlike OpenCV it refuses a JPEG file that ends early
            size = image.size
        decode_pixels(content)
        return size

    def _note(self, path: Path, turned: int) -> None:
        if turned != 1:
            self.orientations[path] = turned

    def compare(
        self, path: Path, size: tuple[int, int] | None, written: tuple[float, float], what: str, sort: str
    ) -> None:
        """Report annotations whose size is not their image's, and what an EXIF orientation means for them.

        `size` is the result of `size(path)` (without one, nothing is reported), `written` the size in the annotations,
        `what` the beginning of the message ("a.xml says 4x3, "), and `sort` names the problem.
        """
        if size is None:
            return
        turned, name = self.orientations.get(path, 1), self.findings.name(path)
        if written == size:
            if turned != 1:
                self._warn_of_orientation(name, turned, size)
        elif turned in QUARTER_TURNS and written == size[::-1]:
            self.findings.error(
                "annotations of turned images",
                f"{what}which fits {name} only turned as its EXIF orientation {turned} says: stored, and used, are "
                f"{by(size)}. If the annotations are right, turn the pixels for good: mogrify -auto-orient {path.name}",
            )
        else:
            self.findings.error(sort, f"{what}but its image {path.name} is {by(size)}")

    def _warn_of_orientation(self, name: str, turned: int, size: tuple[int, int]) -> None:
        fits = "which fits its annotations"
        if turned not in QUARTER_TURNS or size[0] == size[1]:
            fits = (
                "and sizes cannot tell whether its annotations fit that. Look at one: if they fit the turned picture, "
                "turn the pixels for good (mogrify -auto-orient)"
            )
        self.findings.warning(
            "images with an EXIF orientation",
            f"{name} has the EXIF orientation {turned}, which is ignored: pixels are used as stored, {fits}",
        )


def is_file(path: Path) -> bool:
    """Whether it is a regular file, or a link to one; also answers for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long, or permission is denied
        return False


def why_missing(path: Path) -> str:
    """What a message says about a path that is not a regular file, mostly `is missing`."""
    try:
        path.stat()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "is no name that a file can have"
    return "is not a regular file"


def what_is_in(folder: Path) -> str:
    """What a message says about a folder where files were expected: `holds a.txt, b/c.png, ...`."""
    if not os.path.isdir(folder):  # noqa: PTH112  # unlike Path's, it raises nothing where permission is denied
        return "does not exist"
    names = (
        (Path(where) / name).relative_to(folder).as_posix()
        for where, _, names in os.walk(folder)
        for name in sorted(names)
        if not name.startswith(".")
    )
    found = list(islice(names, 4))
    if not found:
        return "holds no file"
    return f"holds {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}"


def relative(path: Path, root: Path) -> str:
    """The path in messages and fingerprints: relative to the root, with slashes."""
    return path.relative_to(root).as_posix()


def by(size: tuple[float, float]) -> str:
    """A size in words, e.g. `640x480`."""
    return f"{size[0]:g}x{size[1]:g}"


def fingerprint(root: Path, images: ImageFiles, annotations: Iterable[Path]) -> tuple[str, str]:
    """(sha256, rule) of the files of which a data set consists; ("", "none") if it has no image.

    The hash covers the rule's name and one line per file, sorted by name: the file's path below the root and the sha256
    of its content. In a data set of more than `THOROUGH_BYTES`, an image's line has its size in bytes instead, so that
    the fingerprint takes seconds; annotations always count with their content.
    """
    if not images.bytes:
        return "", NO_RULE
    rule = CONTENT_RULE if images.thorough else NAME_SIZE_RULE
    lines = []
    for path, size in images.bytes.items():
        lines.append(f"{relative(path, root)}\t{images.sha256.get(path, size) if images.thorough else size}")
    for path in set(annotations):
        try:
            content = read_bounded(path, LARGEST_FILE)
        except (DenseBenchError, OSError, ValueError):
            continue  # it is reported where its content is read
        lines.append(f"{relative(path, root)}\t{hashlib.sha256(content).hexdigest()}")
    text = "\n".join([rule, *sorted(lines)])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest(), rule


def report_copies(train: Iterable[Path], val: Iterable[Path], images: ImageFiles) -> None:
    """Report val images that have the same bytes as a train image; only where images were hashed."""
    known = {images.sha256[path]: path for path in train if path in images.sha256}
    for path in val:
        twin = known.get(images.sha256.get(path, ""))
        if twin is not None and twin != path:
            images.findings.error(
                "val images that are copies of train images",
                f"{relative(path, images.root)} (val) is a copy of {relative(twin, images.root)} (train)",
            )


def report_ids(train: list[str], val: list[str], where: str, findings: Findings) -> None:
    """Report ids listed twice, and ids in both splits."""
    for split, ids in (("train", train), ("val", val)):
        for name, times in Counter(ids).items():
            if times > 1:
                findings.error("duplicated ids", f"{where}: {name} is in {split} {times} times")
    for name in sorted(set(train) & set(val)):
        findings.error("images in both splits", f"{where}: {name} is in train and in val")


def report_lengths(splits: Mapping[str, Split], published: Mapping[str, int], findings: Findings) -> None:
    """Report splits that do not have as many images as those of published results."""
    for name, count in published.items():
        found = len(splits[name].images)
        if found not in (0, count):
            findings.warning(
                "splits of another length",
                f"{name} has {found:,} images, published results {count:,}: your values cannot be compared with theirs",
            )


def listed_in(folder: Path, findings: Findings) -> list[Path]:
    """The sorted content of a folder without hidden files and folders."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []  # a split or video without images is reported as such
    except OSError as error:
        findings.error("unreadable folders", f"{findings.name(folder)} cannot be read: {describe_os_error(error)}")
        return []
