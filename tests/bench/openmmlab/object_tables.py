"""Tables of discovered objects for tests."""

from pathlib import Path

import numpy as np

from pretrain.discovery.object_table import row_type

SIDE = 6


def a_table(images: list[str], path: Path, clusters: int = 20) -> Path:
    """Of images of 45 x 48 pixels, cells of 8: the middle of each is its object; the first could not be read."""
    rows = np.zeros(len(images) + 1, row_type(SIDE))
    rows["cells"] = 255
    for number, name in enumerate(images, start=1):
        rows[number]["image"] = name.encode()
        rows[number]["height"], rows[number]["width"], rows[number]["cell"] = 45, 48, 8
        rows[number]["cells"] = 0
        rows[number]["cells"][2:4, 1:5] = 1 + number % clusters
    path.parent.mkdir(exist_ok=True)
    np.save(path, rows)
    return path
