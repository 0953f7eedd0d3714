"""Guesses descriptions of folders with images and index masks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from bench.datasets.names import VOID
from bench.datasets.own.guess import Guess, class_names, match
from bench.datasets.pixels import LARGEST_FILE, WrongModeError, decode_labels, quiet
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.files import read_bounded
from pretrain.data.pictures import open_picture

_LOOKED_AT: Final = 200
"""Number of masks whose values are read."""
_MOST_VALUES: Final = 100
"""Most different values of an image that may be a mask: photographs in grey have more."""

_COLORS: Final = ("1", "LA", "RGB", "RGBA")
"""Modes of pictures whose values Pillow counts; the others have more than a byte per value."""


def masks(folder: Path, images: list[str]) -> Guess | None:
    """A data set with index masks, or None."""
    found = _mask_files(folder, images, _is_mask)
    ending = _ending([one for one in images if one not in found], found)
    if ending is None:
        return None
    parts = match((one for one in images if one not in found), found, lambda name: name.removesuffix(ending))
    if not parts:
        return None
    values: set[int] = set()
    read = sorted(found)[:: max(1, len(found) // _LOOKED_AT)]
    for name in read:
        values |= _values(folder / name) or set()
    notes = [f"Values were read from {len(read):,} of {len(found):,} masks."] if len(read) < len(found) else []
    names = class_names(folder)
    ignore: tuple[int, ...] = ()
    if values <= {0, VOID} and not names:
        classes = {0: "background", VOID: "foreground"}
    else:
        classes = dict(enumerate(names)) | {v: f"class_{v}" for v in sorted(values) if v >= len(names) and v != VOID}
        ignore = (VOID,) if VOID in values else ()
        if len(classes) > len(names):
            notes.append("No file classes.txt names all values, one per line from 0 on: write the names.")
        if ignore:
            notes.append(f"Pixels of value {VOID} are taken not to count.")
    return Guess("masks", parts, classes, ignore, ending, notes)


def of_another_kind(folder: Path, images: list[str]) -> list[str]:
    """PNGs with the names of images and few values, as masks have them, but not with one byte per pixel."""
    found = _mask_files(folder, images, lambda file: mode_of_mask(file) is not None)
    ending = _ending([one for one in images if one not in found], found)
    stems = {PurePosixPath(one).stem for one in images if one not in found}
    named = [one for one in found if ending and PurePosixPath(one).name.removesuffix(ending) in stems]
    return sorted(named)


def mode_of_mask(file: Path) -> str | None:
    """Pillow's mode of a picture of few values that is no index mask; None for an index mask or a photograph."""
    try:
        with quiet(), open_picture(file) as picture:
            if picture.mode in ("L", "P"):
                return None
            few = picture.getcolors(_MOST_VALUES) if picture.mode in _COLORS else np.unique(np.asarray(picture))
            return picture.mode if few is not None and len(few) <= _MOST_VALUES else None
    except Exception:  # damaged data makes Pillow raise nearly anything
        return None


def _mask_files(folder: Path, images: list[str], is_mask: Callable[[Path], bool]) -> set[str]:
    """Images that seem to be masks: those of a folder and an ending whose first ones are."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in images:
        path = PurePosixPath(name)
        if path.suffix.lower() == ".png":
            groups[str(path.parent), _last_word(path.stem)].append(name)
    found: set[str] = set()
    for names in groups.values():
        if all(is_mask(folder / name) for name in names[:3]):
            found.update(names)
    return found


def _ending(images: Iterable[str], found: Iterable[str]) -> str | None:
    """What most masks have behind the name of their image, such as `_mask.png`."""
    stems = {PurePosixPath(one).stem for one in images}
    votes: Counter[str] = Counter()
    for mask in found:
        name = PurePosixPath(mask).name
        stem = next((name[:end] for end in range(len(name) - 1, 0, -1) if name[:end] in stems), None)
        if stem is not None:
            votes[name.removeprefix(stem)] += 1
    return votes.most_common(1)[0][0] if votes else None


def _last_word(stem: str) -> str:
    """The last word of a name behind an underscore or hyphen, if it is no number: `mask` of `a_12_mask`."""
    word = stem.replace("-", "_").rpartition("_")[2] if "_" in stem or "-" in stem else ""
    return word if word.isalpha() else ""


def _is_mask(file: Path) -> bool:
    values = _values(file)
    return values is not None and len(values) <= _MOST_VALUES


def _values(file: Path) -> set[int] | None:
    """The values of a mask's pixels; None for a picture that is no mask."""
    try:
        labels = decode_labels(read_bounded(file, LARGEST_FILE))
    except (WrongModeError, DenseBenchError, OSError, ValueError):
        return None
    return set(np.unique(labels).tolist())
