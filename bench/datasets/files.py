"""Reading a data set's files once: sizes, damage, hashes, fingerprint."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from bench.datasets.report import Findings
from pretrain.data.pictures import open_picture

THOROUGH_BYTES: Final = 2**30
"""Up to so many bytes of images in a data set, every image is decoded and hashed; beyond, only headers are read."""
CONTENT_RULE: Final = "content-v1"
NAME_SIZE_RULE: Final = "image-name-and-size-v1"


class ImageFiles:
    """The images of a data set: reads each once, reports what is missing or damaged."""

    def __init__(self, root: Path, paths: Iterable[Path], findings: Findings) -> None:
        self.root = root
        self.findings = findings
        self.bytes = {path: path.stat().st_size for path in paths if path.is_file()}
        self.thorough = sum(self.bytes.values()) <= THOROUGH_BYTES
        self.sha256: dict[Path, str] = {}

    def size(self, path: Path) -> tuple[int, int] | None:
        """Width and height; None, with the problem reported, if the image is missing or damaged."""
        if path not in self.bytes:
            self.findings.error("missing images", f"{relative(path, self.root)} is missing")
            return None
        try:
            if not self.thorough:
                with quiet(), open_picture(path) as image:
                    return image.size
            content = path.read_bytes()
            self.sha256[path] = hashlib.sha256(content).hexdigest()
            with quiet(), open_picture(io.BytesIO(content)) as image:
                image.load()
                return image.size
        except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:
            self.findings.error("damaged images", f"{relative(path, self.root)} is damaged: {error}")
            return None


class quiet(warnings.catch_warnings):  # noqa: N801
    """Without Pillow's remarks about odd but readable metadata, and about sizes that `open_picture` refuses."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)


def read_labels(path: Path, root: Path, findings: Findings) -> npt.NDArray[np.uint8] | None:
    """The label image (H, W); None, with the problem reported, if it is missing, damaged or not a label image."""
    name = relative(path, root)
    if not path.is_file():
        findings.error("missing masks", f"{name} is missing")
        return None
    try:
        with quiet(), open_picture(path) as image:
            if image.mode not in ("L", "P"):
                findings.error(
                    "masks of a wrong type",
                    f"{name} is a {image.mode} image: a mask must hold one label a pixel (8-bit grey or palette PNG)",
                )
                return None
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:
        findings.error("damaged masks", f"{name} is damaged: {error}")
        return None


def same_size(
    labels: npt.NDArray[np.uint8], size: tuple[int, int] | None, name: str, image: str, findings: Findings
) -> None:
    """Report a mask whose size is not its image's."""
    height, width = labels.shape
    if size is not None and (width, height) != size:
        findings.error(
            "masks of another size than their image",
            f"{name} is {width}x{height}, but its image {image} is {size[0]}x{size[1]}",
        )


def relative(path: Path, root: Path) -> str:
    """The path as messages and fingerprints name it: below the root, with slashes."""
    return path.relative_to(root).as_posix()


def fingerprint(root: Path, images: ImageFiles, annotations: Iterable[Path]) -> tuple[str, str]:
    """(sha256, rule) of the very files that a data set consists of.

    The hash covers the rule's name and one line a file, sorted by name: the file's path below the root and the
    sha256 of its content. Beyond `THOROUGH_BYTES` an image's line has its size in bytes instead, so that a large
    data set is fingerprinted in seconds; annotations always count with their content.
    """
    rule = CONTENT_RULE if images.thorough else NAME_SIZE_RULE
    lines = []
    for path, size in images.bytes.items():
        lines.append(f"{relative(path, root)}\t{images.sha256.get(path, size) if images.thorough else size}")
    for path in set(annotations):
        if path.is_file():
            lines.append(f"{relative(path, root)}\t{hashlib.sha256(path.read_bytes()).hexdigest()}")
    text = "\n".join([rule, *sorted(lines)])
    return hashlib.sha256(text.encode()).hexdigest(), rule


def report_copies(train: Iterable[Path], val: Iterable[Path], images: ImageFiles) -> None:
    """Report val images whose bytes are also a train image's; only where images were hashed."""
    known = {images.sha256[path]: path for path in train if path in images.sha256}
    for path in val:
        twin = known.get(images.sha256.get(path, ""))
        if twin is not None and twin != path:
            images.findings.error(
                "val images that are copies of train images",
                f"{relative(path, images.root)} (val) is a copy of {relative(twin, images.root)} (train)",
            )


def report_ids(train: list[str], val: list[str], where: str, findings: Findings) -> None:
    """Report empty splits, ids listed twice, and ids in both splits."""
    for split, ids in (("train", train), ("val", val)):
        if not ids:
            findings.error("empty splits", f"{where}: the {split} split is empty")
        for name, times in Counter(ids).items():
            if times > 1:
                findings.error("duplicated ids", f"{where}: {name} is in {split} {times} times")
    for name in sorted(set(train) & set(val)):
        findings.error("images in both splits", f"{where}: {name} is in train and in val")
