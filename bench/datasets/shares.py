"""Lists of a share of the training images, for what a backbone is worth where labels are few.

Nothing is random: images are ordered by the SHA-256 of their file's name, and a share is the first of them. So none is
taken twice, a larger share contains every smaller one, and the list follows from the images alone. Up to five folds,
and more, differ in what is hashed: the name in fold 0, as in track frozen, and `FOLD/NAME` in the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

LABELLED = "labelled.txt"
"""File with the names of the training images whose labels were used, where not all were."""
FEWEST = 2
"""Number of images below which no share goes."""


def count_of(share: float, images: int) -> int:
    """Number of images in a `share` of `images`."""
    return min(images, max(FEWEST, round(share * images)))


def take_share(names: Sequence[str], share: float, fold: int = 0) -> list[int]:
    """Positions, ascending, of the images that make a `share` (above 0, up to 1) of those with these `names`."""
    digests = [hashlib.sha256((f"{fold}/{name}" if fold else name).encode()).hexdigest() for name in names]
    first = sorted(range(len(names)), key=lambda position: digests[position])
    return sorted(first[: count_of(share, len(names))])
