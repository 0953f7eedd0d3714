"""The known formats of checkpoints: how such a file is recognized, and what its authors do with the network.

The import also works without an entry, which only adds knowledge: any prefix is found, and any known naming is read
(`layouts`). The facts here were read in the code that `source` names, at that commit.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import islice
from typing import Final

from bench.checkpoints.formats.base import IMAGENET_STD, Format
from bench.checkpoints.formats.convnets import CONVNETS
from bench.checkpoints.formats.resnets import RESNETS
from bench.checkpoints.formats.transformers import TRANSFORMERS

__all__ = ["FORMATS", "IMAGENET_STD", "Format", "recognize"]

SEARCHED: Final = 10_000
"""The marks are searched in at most this many names of a file."""
FORMATS: Final[tuple[Format, ...]] = (*RESNETS, *TRANSFORMERS, *CONVNETS)
"""The first entry whose marks are all found is used: more specific entries come before the others."""


def recognize(layout: str, names: Collection[str]) -> Format | None:
    """The format of a file with tensors of these names whose backbone has that naming style; None if it is unknown."""
    searched = list(islice(names, SEARCHED))
    for form in FORMATS:
        if layout in form.layouts and all(any(re.search(mark, name) for name in searched) for mark in form.marks):
            return form
    return None
