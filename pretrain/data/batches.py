"""Opens image sources and draws batches of crops from them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from leaderboard.base.processes import end_with_parent, loader_context
from pretrain.data import tensorflow_crops
from pretrain.data.crops import cut, draw_box, draw_overlapping_box, epoch_order, view_generator
from pretrain.data.decode import DamagedImageError
from pretrain.data.shards import ShardSource, expand_shards, is_shard, refuse_compressed
from pretrain.data.sources import SUFFIXES, ImageSource, find_files, is_image, read_list
from pretrain.data.views import Crop, ViewPlan
from pretrain.errors import PretrainError

__all__ = [
    "SUFFIXES",
    "CropBatches",
    "CropDataset",
    "ImageSource",
    "Loading",
    "crop_batches",
    "open_images",
    "steps_per_epoch",
]

log = logging.getLogger(__name__)

OnDamaged = Literal["error", "skip"]


@dataclass(frozen=True)
class Loading:
    """How one process of a run loads its share of every batch. Raises PretrainError for values out of range."""

    batch_size: int
    """Images per step in this process: `world` processes share each global batch equally."""
    seed: int = 0
    rank: int = 0
    world: int = 1
    workers: int = 1
    """Number of processes that prepare batches (0: this one does), one thread each; it does not change results."""
    pin: bool = False
    """Whether batches are put into page-locked memory, from which a GPU copies them without waiting."""
    on_damaged: OnDamaged = "error"
    """Whether a damaged image ends the loading, or is replaced by the next readable image and counted."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} of {self.world} processes")
        if not 0 <= self.seed < 2**64:
            raise PretrainError(f"seed {self.seed} must be in [0, 2**64).")
        if self.on_damaged not in ("error", "skip"):
            raise PretrainError(f'on_damaged is {self.on_damaged!r}; it must be "error" or "skip".')


def open_images(path: Path) -> ImageSource:
    """The images in a folder, those that a text file lists, or those in tar shards.

    A folder (of ImageNet or COCO, say) is searched recursively, through symbolic links too, for the suffixes in
    `SUFFIXES` (in any case); hidden files and folders are left out. One without images may hold `.tar` files instead:
    they are its shards. A `.txt` file lists one image per line, relative to its own folder or absolute. A single `.tar`
    file, or a pattern of them as in `expand_shards`, is opened as shards too (see `pretrain.data.shards`). Raises
    PretrainError if there is no image.
    """
    if path.is_dir():
        return _open_folder(path)
    if path.is_file() and path.suffix.lower() == ".txt":
        return ImageSource(path.parent, read_list(path))
    if path.is_file() and is_shard(path.name):
        return ShardSource(path, [path])
    kinds = "a folder of images or of .tar shards, a .tar file, a pattern of them, or a .txt list of image files"
    if path.exists():
        refuse_compressed([path])
        raise PretrainError(f"{path} is of no known kind; give {kinds}.")
    if set(str(path)) & set("{*?["):
        shards = expand_shards(str(path))
        return ShardSource(Path(os.path.commonpath([shard.parent for shard in shards])), shards)
    raise PretrainError(f"{path} does not exist; give {kinds}.")


def _open_folder(root: Path) -> ImageSource:
    names = list(find_files(root))
    images = [name for name in names if is_image(name)]
    if images:
        return ImageSource(root, images)
    shards = [root / name for name in names if is_shard(name)]
    if shards:
        return ShardSource(root, shards)
    refuse_compressed(root / name for name in names)
    raise PretrainError(
        f"no images in {root} or the folders below it.\nLooked for files ending in {' '.join(SUFFIXES)}, or .tar."
    )


def steps_per_epoch(source_len: int, global_batch: int) -> int:
    """Steps of an epoch: the last, incomplete batch is dropped. Raises PretrainError if not one batch is complete."""
    if global_batch < 1:
        raise PretrainError(f"a batch of {global_batch} images makes no sense; it must be at least 1.")
    if source_len < global_batch:
        raise PretrainError(f"{source_len} images do not fill one batch of {global_batch}; choose a smaller batch.")
    return source_len // global_batch


class _Sample(NamedTuple):
    image_id: int
    pixels: Tensor
    box: tuple[float, float, float, float]
    flip: bool
    colour: list[float]


def _batch(samples: list[_Sample]) -> Crop:
    return Crop(
        pixels=torch.stack([sample.pixels for sample in samples]).contiguous(),
        box=torch.tensor([sample.box for sample in samples], dtype=torch.float32),
        flip=torch.tensor([sample.flip for sample in samples]),
        image_id=torch.tensor([sample.image_id for sample in samples]),
        colour=torch.tensor([sample.colour for sample in samples], dtype=torch.float32),
    )


class CropDataset(Dataset[list[Crop] | PretrainError]):
    """Data set whose item t holds the crops of step t of one epoch for one process: one `Crop` per view of the plan.

    The global batch of step t is the t-th section of the epoch's order, and process `rank` takes the rank-th slice of
    it, so the set of images of a step does not depend on the number of processes. An expected failure is returned, not
    raised, because a data loader hides the message of a raised error below its workers' tracebacks.
    """

    def __init__(self, source: ImageSource, plan: ViewPlan, loading: Loading, *, epoch: int):
        self.source, self.plan, self.loading, self.epoch = source, plan, loading, epoch
        self.steps = steps_per_epoch(len(source), loading.batch_size * loading.world)
        self._order: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.steps

    def ids(self, step: int) -> npt.NDArray[np.int64]:
        """The image ids of this process at `step`, int64 (batch_size,)."""
        if self._order is None:
            self._order = epoch_order(self.loading.seed, self.epoch, len(self.source))
        size = self.loading.batch_size
        start = (step * self.loading.world + self.loading.rank) * size
        return self._order[start : start + size]

    def __getitem__(self, step: int) -> list[Crop] | PretrainError:
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        drawn: list[list[_Sample]] = [[] for _ in self.plan.specs]
        for image_id in self.ids(step).tolist():
            try:
                found, image = self._decode(image_id)
                places = self._places(found, image, image_id)
                boxes: dict[str, tuple[int, int, int, int]] = {}
                for view, samples in enumerate(drawn):
                    shown, box = places.get(self.plan.specs[view].name, (found, None))
                    shows = image if shown == found else self.source.decode(shown)
                    samples.append(self._draw(shows, shown, image_id, view, boxes, box))
            except PretrainError as error:
                return error
        return [_batch(samples) for samples in drawn]

    def _places(self, found: int, image: Tensor, image_id: int) -> Mapping[str, tuple[int, tuple[int, int, int, int]]]:
        """The plan's `places` for the image `found`, which may replace `image_id`."""
        if self.plan.places is None:
            return {}
        rng = view_generator(self.loading.seed, self.epoch, image_id, len(self.plan.specs))
        return self.plan.places.draw(rng, found, image.shape[2], image.shape[1])

    def _draw(
        self,
        image: Tensor,
        shown: int,
        image_id: int,
        view: int,
        boxes: dict[str, tuple[int, int, int, int]],
        box: tuple[int, int, int, int] | None,
    ) -> _Sample:
        """One view of the image `shown`, at `box` if there is one. `boxes` holds the boxes of the image's earlier views
        by name, and gets the box of this one."""
        # The key is the id in the epoch's order: an image that replaces a damaged one also comes under its own id, and
        # is not cropped and colored the same way twice in an epoch.
        rng = view_generator(self.loading.seed, self.epoch, image_id, view)
        spec = self.plan.specs[view]
        height, width = image.shape[1:]
        if box is not None:
            pass
        elif spec.rules != "torchvision":
            box = tensorflow_crops.draw_box(spec.rules, rng, width, height, spec.scale, spec.ratio)
        elif spec.overlap is None:
            box = draw_box(rng, width, height, spec.scale, spec.ratio)
        else:
            name, share = spec.overlap
            box = draw_overlapping_box(rng, width, height, spec.scale, spec.ratio, boxes[name], share)
        left, top, w, h = boxes[spec.name] = box
        flip = rng.random() < spec.flip
        return _Sample(
            image_id=shown,
            pixels=cut(image, box, spec, flip),
            box=(left / width, top / height, (left + w) / width, (top + h) / height),
            flip=flip,
            colour=[number for op in spec.colour for number in op.draw(rng)],
        )

    def _decode(self, image_id: int) -> tuple[int, Tensor]:
        """The image, or with `on_damaged="skip"` the next readable one by id (after the last comes the first)."""
        if self.loading.on_damaged == "error":
            return image_id, self.source.decode(image_id)
        for offset in range(len(self.source)):
            index = (image_id + offset) % len(self.source)
            try:
                return index, self.source.decode(index)
            except DamagedImageError:
                continue
        raise PretrainError(f"none of the {len(self.source)} images under {self.source.root} can be read.")


class CropBatches(Iterator[list[Crop]]):
    """The batches of one epoch, in order. `skipped` counts the images replaced because they were damaged."""

    def __init__(self, dataset: CropDataset, *, first_step: int):
        self.dataset = dataset
        self.skipped = 0
        self._step = first_step
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=range(first_step, len(dataset)),
            num_workers=dataset.loading.workers,
            multiprocessing_context=loader_context() if dataset.loading.workers else None,
            collate_fn=_as_is,
            worker_init_fn=_end_with_training,
            pin_memory=dataset.loading.pin,
            # The loader draws a seed for its workers, which nothing here uses. It must not come from the global
            # generator, whose state would then depend on how often a run was resumed.
            generator=torch.Generator(),
        )
        self._loader = iter(loader)

    def __len__(self) -> int:
        """Number of remaining batches."""
        return len(self.dataset) - self._step

    def __next__(self) -> list[Crop]:
        crops: list[Crop] | PretrainError = next(self._loader)
        if isinstance(crops, PretrainError):
            raise crops
        self._note_skipped(crops[0].image_id.numpy())
        self._step += 1
        return crops

    def _note_skipped(self, used: npt.NDArray[np.int64]) -> None:
        wanted = self.dataset.ids(self._step)
        for image_id in wanted[wanted != used].tolist():
            self.skipped += 1
            log.warning("skipped damaged image %s", self.dataset.source.where(image_id))


def _end_with_training(worker: int) -> None:
    """Exit with the training process: PyTorch's workers watch their parent, which is a server without forking."""
    end_with_parent()


def _as_is(item: list[Crop] | PretrainError) -> list[Crop] | PretrainError:
    return item


def crop_batches(
    source: ImageSource, plan: ViewPlan, loading: Loading, *, epoch: int = 0, first_step: int = 0
) -> CropBatches:
    """The crops of one epoch from `first_step` on, step by step: a list with one `Crop` for each view of `plan`.

    A damaged image raises PretrainError, or is replaced by the next readable one, with a warning and a count in
    `CropBatches.skipped` (see `Loading`).
    """
    return CropBatches(CropDataset(source, plan, loading, epoch=epoch), first_step=first_step)
