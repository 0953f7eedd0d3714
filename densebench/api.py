"""The functions for notebooks: each does one step of the command `densebench`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import pandas as pd

    from bench.submit import Submission
    from leaderboard.records import Card
    from pretrain.data.views import View
    from pretrain.method import Method
    from pretrain.recipes import Recipe

WORK = Path("densebench-work")
"""Folder for all work, the default of the command, too."""


class Backbone(nn.Module):
    """A pretrained network with its card. It normalizes images as the card says and returns the maps of all stages."""

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network = network
        self.card = card
        """Architecture, input, pretraining data and source (`leaderboard.records.Card`)."""
        for name, values in (("mean", card.mean), ("std", card.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps (N, C_i, H_i, W_i) of the network's stages, the finest first; a ViT has only one.

        `images` are RGB (N, 3, H, W): uint8 in [0, 255], or floating point in [0, 1].
        """
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        if self.card.color_order == "BGR":
            pixels = pixels.flip(1)
        pixels = (pixels - self.get_buffer("mean")) / self.get_buffer("std")
        stages = getattr(self.network, "features", None)
        return [self.network(pixels)] if stages is None else list(stages(pixels))


def load_backbone(checkpoint: str | Path, **card_fields: Any) -> Backbone:
    """The backbone of an exported folder or of any checkpoint that `densebench inspect` can read, in evaluation mode.

    A checkpoint that is not exported is imported first, with proof that every tensor is filled and none is left over,
    in a temporary folder: what it is called here is no submission's name. `card_fields` (such as `color_order`, `mean`,
    `std`, `prefix`, `architecture`) go to `bench.checkpoints.import_checkpoint`. `random:resnet50` is random
    initialization.

    Raises:
        DenseBenchError: it cannot be read, or does not fill a network that is known.
    """
    from bench.checkpoints import import_checkpoint
    from bench.checkpoints.given import submission_name
    from pretrain.exported import is_exported, read_exported

    if card_fields or not is_exported(Path(checkpoint)):
        name = card_fields.pop("name", None) or submission_name(str(checkpoint))
        with tempfile.TemporaryDirectory() as work:
            exported = read_exported(import_checkpoint(checkpoint, name=name, work=Path(work), **card_fields))
    else:
        exported = read_exported(Path(checkpoint))
    return Backbone(exported.build(), exported.card).eval()


def build_method(recipe: str | Path, **settings: Any) -> Method:
    """The freshly initialized method of a recipe (`densebench recipes`; or FILE.py, FILE.py:NAME), a torch module.

    `settings` change the method's: `build_method("densecl-mini", dim=64, queue=128)`. Called with views it returns a
    dictionary of tensors whose `loss` is to be minimized.

    Raises:
        PretrainError: there is no such recipe or setting.
    """
    return _recipe(recipe, {f"method.{name}": value for name, value in settings.items()}).method.build().train()


def make_views(method: Method, images: str | Path | Sequence[str | Path], *, seed: int = 0) -> list[View]:
    """Augmented views of images for one call of `method`: one normalized batch for each of its views.

    `images` is a folder, a list file or tar shards, or a sequence of image files. `seed` determines every random draw
    and the order of the images (`View.image_id` is their position by name).

    Raises:
        PretrainError: an image cannot be read.
    """
    from pretrain.data.augment import finish_views
    from pretrain.data.batches import Loading, crop_batches, open_images
    from pretrain.data.sources import ImageSource

    if isinstance(images, (str, Path)):
        source = open_images(Path(images))
    else:
        source = ImageSource(Path(), [str(Path(image).absolute()) for image in images])
    with tempfile.TemporaryDirectory() as folder:
        method.prepare(source, Path(folder))
        crops = next(crop_batches(source, method.plan, Loading(len(source), seed=seed, workers=0)))
        return [finish_views(crop, spec, method.plan) for crop, spec in zip(crops, method.plan.specs, strict=True)]


def pretrain(
    recipe: str | Path,
    images: str | Path,
    *,
    out: str | Path | None = None,
    work: str | Path = WORK,
    seed: int = 0,
    **settings: Any,
) -> Path:
    """Pretrain with a recipe on a folder, list or tar shards of images; returns the run's folder.

    `settings` change the recipe's, with double underscores for dots: `epochs=20, optimizer__lr=0.03`. A run that was
    interrupted continues.

    Raises:
        PretrainError: the recipe, a setting or the images are not usable (`pretrain.run.train.train` says more).
    """
    from pretrain.data.batches import open_images
    from pretrain.run.train import train

    chosen = _recipe(recipe, {name.replace("__", "."): value for name, value in settings.items()})
    folder = Path(out or Path(work) / "pretraining" / f"{chosen.name}-seed{seed}")
    return train(chosen, open_images(Path(images)), folder, seed=seed, resume=folder.exists())


def export(run: str | Path, *, out: str | Path | None = None) -> Path:
    """The trained backbone of a finished run as `backbone.safetensors` and `card.json`; returns their folder.

    Raises:
        PretrainError: the run is not finished, or damaged.
    """
    from pretrain.export import export as write

    return write(Path(run), None if out is None else Path(out))


def submit(
    checkpoint: str | Path,
    *,
    name: str,
    data: str | Path,
    track: str = "frozen",
    protocols: Sequence[str | Path] = (),
    seeds: int | None = None,
    work: str | Path = WORK,
    processes: int | None = None,
    **card_fields: Any,
) -> Submission:
    """Evaluate a checkpoint under the protocols of a track (or under `protocols` alone), as `densebench submit` does.

    Runs that have a result are not repeated. The returned object has `results` (old and new) and `failures`.

    Raises:
        DenseBenchError: the checkpoint, a protocol or the data are not usable.
    """
    from bench.submit import plan_submission
    from bench.submit import submit as execute

    plan = plan_submission(
        checkpoint,
        name=name,
        data=Path(data),
        work=Path(work),
        track=track,
        protocols=[str(protocol) for protocol in protocols],
        seeds=seeds,
        **card_fields,
    )
    return execute(plan, processes=processes)


def leaderboard(results: str | Path = WORK / "results", *, each_checkpoint: bool = False) -> pd.DataFrame:
    """The leaderboard of a folder of result files: the rows of the CSV, each column with its type.

    `densebench leaderboard --columns` says what the columns mean. With `each_checkpoint`, each checkpoint has a row of
    its own, also where several are pretraining runs of one method.

    Raises:
        LeaderboardError: there is no such folder.
    """
    from bench.known import known_to_leaderboard
    from leaderboard.build import build
    from leaderboard.frame import frame

    return frame(build(Path(results), each=each_checkpoint, **known_to_leaderboard()).board)


def _recipe(name: str | Path, settings: dict[str, Any]) -> Recipe:
    from pretrain.outside import find_anywhere
    from pretrain.recipes import override
    from pretrain.settings import as_text

    return override(find_anywhere(str(name)), [f"{key}={as_text(value)}" for key, value in settings.items()])
