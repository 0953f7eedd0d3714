"""Lists of a share of the training images: what a backbone is worth where labels are few, and to choose settings on.

Nothing is random: images are ordered by the SHA-256 of their file's name, and a share is the first of them. So none is
taken twice, a larger share contains every smaller one, and the list follows from the images alone. Up to five folds,
and more, differ in what is hashed: the name in fold 0, as in track frozen, and `FOLD/NAME` in the others; of what is
held out of training to choose settings on, `held-out/NAME`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bench.errors import BenchError

LABELLED = "labelled.txt"
"""File with the names of the training images whose labels were used, where not all were."""
FEWEST = 2
"""Number of images below which no share goes."""


def count_of(share: float, images: int) -> int:
    """Number of images in a `share` of `images`."""
    return min(images, max(FEWEST, round(share * images)))


def take_share(names: Sequence[str], share: float, fold: int = 0) -> list[int]:
    """Positions, ascending, of the images that make a `share` (above 0, up to 1) of those with these `names`."""
    first = by_hash([f"{fold}/{name}" if fold else name for name in names])
    return sorted(first[: count_of(share, len(names))])


def take_share_of_each(names: Sequence[str], groups: Sequence[str], share: float, fold: int = 0) -> list[int]:
    """Positions, ascending, of the images that make a `share` of those in each group: their class, or one for all."""
    members: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    taken = [[own[i] for i in take_share([names[k] for k in own], share, fold)] for own in members.values()]
    return sorted(position for group in taken for position in group)


def hold_out(units: Sequence[str], amount: float) -> list[int]:
    """Positions, ascending, of the images that are held out of training, so that settings can be chosen on them.

    Args:
        units: for each image the name of what is held out as a whole: the image's file, or the folder that it is in.
        amount: share of the units (below 1), or their number (from 1 on).

    Raises:
        BenchError: no unit would be left to train on.
    """
    names = sorted(set(units))
    count = count_of(amount, len(names)) if amount < 1 else int(amount)
    if count >= len(names):
        raise BenchError(f"{count} of {len(names)} are to be held out of the training images: there are too few")
    held = {names[position] for position in by_hash([f"held-out/{name}" for name in names])[:count]}
    return [position for position, unit in enumerate(units) if unit in held]


def by_hash(texts: Sequence[str]) -> list[int]:
    """Positions of the texts, by the SHA-256 of their bytes, which need not be UTF-8 where they are files' names."""
    digests = [hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest() for text in texts]
    return sorted(range(len(texts)), key=lambda position: digests[position])
