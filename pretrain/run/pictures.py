"""Pictures of a few images of a run: what its stages, and its method as trained so far, have found in them.

Tables of stages are told apart by their form; see `pretrain.discovery`. All are drawn as they lie on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pretrain.data.batches import ImageSource
from pretrain.data.decode import DamagedImageError
from pretrain.data.views import View
from pretrain.discovery.correspondence import listed
from pretrain.errors import PretrainError
from pretrain.method import Method
from pretrain.methods import method_of
from pretrain.outside import every_recipe
from pretrain.recipe_files import read_recipe
from pretrain.recipes import Recipe
from pretrain.run import drawing
from pretrain.run.drawing import RGB
from pretrain.run.folder import RunRecord, read_checkpoint, read_record
from pretrain.run.stages import product_of

IMAGES = 6
"""Number of images that are drawn, evenly spaced in the source."""
BOXES, NEIGHBORS = 12, 4
"""Most boxes and most neighboring images in a picture."""

Table = npt.NDArray[Any]


@dataclass(frozen=True)
class Pictures:
    """A table of pictures of one run, as data URLs."""

    run: str
    titles: tuple[str, ...]
    """Titles of the columns: the images, then what was found, in order."""
    rows: tuple[tuple[str, ...], ...]


class Gallery:
    """Draws runs on the images of `source`. What was drawn of a file is drawn again only when the file is another."""

    def __init__(self, source: ImageSource, stages: Path | None = None) -> None:
        self.source, self.stages = source, stages
        self.ids = tuple(dict.fromkeys(int((k + 0.5) * len(source) / IMAGES) for k in range(IMAGES)))
        self._fingerprint = source.fingerprint()
        self._images: list[RGB] | None = None
        self._drawn: dict[tuple[Path, float], list[str]] = {}

    @property
    def images(self) -> list[RGB]:
        """The images that are drawn; a black one, if one cannot be read."""
        if self._images is None:
            self._images = [self._image(index) for index in self.ids]
        return self._images

    def of(self, folder: Path) -> Pictures | None:
        """What the run in `folder` has found so far; None if it has found nothing.

        Raises:
            PretrainError: the run was made with other images, or a file is damaged.
        """
        record = read_record(folder)
        if record.data_fingerprint != self._fingerprint:
            raise PretrainError(f"{folder} was made with other images: name those of the run, --images DATA")
        recipe = read_recipe(folder / "run.json", every_recipe().values())
        columns = dict(self._columns(folder, record, recipe))
        if not columns:
            return None
        images = [drawing.as_address(image) for image in self.images]
        rows = tuple(zip(images, *columns.values(), strict=True))
        return Pictures(folder.resolve().name, ("image", *columns), rows)

    def _columns(self, folder: Path, record: RunRecord, recipe: Recipe) -> Iterator[tuple[str, list[str]]]:
        products: dict[str, Path] = {}
        for number, stage in enumerate(recipe.stages, start=1):
            product = product_of(folder, number, stage.name, self.stages)
            if product is not None and product.is_file():
                products[stage.name] = product
                yield stage.name, self._kept(product, lambda path: self._of_table(path, products))
        for path in sorted(folder.glob("masks-*.npy")):
            yield "masks of the images", self._kept(path, lambda path: self._of_table(path, products))
        if (folder / "checkpoint.pt").is_file():
            drawn = self._kept(folder / "checkpoint.pt", lambda path: self._of_method(folder, record, recipe))
            if drawn:
                yield "regions by the newest checkpoint", drawn

    def _kept(self, path: Path, draw: Callable[[Path], Iterable[RGB]]) -> list[str]:
        key = path.resolve(), path.stat().st_mtime
        if key not in self._drawn:
            self._drawn[key] = [drawing.as_address(picture) for picture in draw(path)]
        return self._drawn[key]

    def _of_table(self, path: Path, products: dict[str, Path]) -> Iterator[RGB]:
        try:
            table: Table = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise PretrainError(f"{path} is damaged ({error}): delete its folder and resume the run") from error
        for picture, index in zip(self.images, self.ids, strict=True):
            yield self._drawn_row(picture, table[index], index, products)

    def _drawn_row(self, picture: RGB, row: Table, index: int, products: dict[str, Path]) -> RGB:
        if row.dtype.names:
            return drawing.with_object(picture, row)
        if row.dtype == np.uint8 and row.ndim == 2:
            return drawing.with_regions(picture, row)
        if row.dtype == np.uint16 and row.ndim == 2:
            return drawing.with_boxes(picture, listed(row)[:BOXES].tolist())
        if row.dtype == np.int32 and row.ndim == 1:
            return drawing.side_by_side([self._image(int(near)) for near in row[:NEIGHBORS]])
        pairs = listed(row[0])[:BOXES]
        neighbor = int(np.load(products["neighbors"], mmap_mode="r")[index, 0])
        both = [(picture, pairs[:, :4]), (self._image(neighbor), pairs[:, 4:])]
        return drawing.side_by_side([drawing.with_boxes(image, boxes.tolist()) for image, boxes in both])

    @torch.no_grad()
    def _of_method(self, folder: Path, record: RunRecord, recipe: Recipe) -> list[RGB]:
        """The regions that the method forms at its newest checkpoint; none, if it forms none while it trains."""
        if method_of(recipe).found is Method.found:
            return []
        method = recipe.method.build()
        method.load_state_dict(read_checkpoint(folder / "checkpoint.pt", record)["method"])
        method.eval().prepare(self.source, folder)
        torch.manual_seed(0)
        regions = method.found(self._whole(method))
        assert regions is not None
        return [
            drawing.with_regions(picture, labels.numpy()) for picture, labels in zip(self.images, regions, strict=True)
        ]

    def _whole(self, method: Method) -> View:
        """The whole images as the method sees them whose features it clusters."""
        size = method.plan.specs[-1].size
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (method.plan.mean, method.plan.std))
        pixels = torch.stack([_resized(image, size) for image in self.images])
        count = len(self.ids)
        box = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1)
        return View((pixels - mean) / std, box, torch.zeros(count, dtype=torch.bool), torch.tensor(self.ids))

    def _image(self, index: int) -> RGB:
        try:
            return self.source.decode(index).permute(1, 2, 0).numpy()
        except DamagedImageError:
            return np.zeros((64, 64, 3), np.uint8)


def _resized(image: RGB, size: int) -> Tensor:
    """The whole image at `size` x `size`, between 0 and 1."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    return interpolate(pixels, size=(size, size), mode="bicubic", antialias=True)[0] / 255
