"""NormRescale: give a backbone the weight norms of another one, so that it can be fine-tuned like that one.

Weights trained with LARS grow to other norms than those trained with SGD, and the usual learning rates of fine-tuning
then fit badly. Huang et al., Revisiting the Critical Factors of Augmentation-Invariant Representation Learning, ECCV
2022, arXiv 2208.00275; code megvii-research/revisitAIRL, `norm_rescale.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from leaderboard.base.provenance import code_commit
from leaderboard.records import Card, Source
from pretrain.data.augment import finish_views
from pretrain.data.batches import ImageSource, Loading, crop_batches, steps_per_epoch
from pretrain.data.views import Crop, ViewPlan, ViewSpec
from pretrain.errors import PretrainError
from pretrain.exported import WEIGHTS, read_exported, write_exported

BATCH, MAX_BATCHES = 64, 200


def norm_rescale(
    checkpoint: Path,
    reference: Path,
    out: Path,
    *,
    images: ImageSource | None = None,
    literal: bool = False,
    name: str | None = None,
    workers: int = 1,
) -> Path:
    """Write the backbone of `checkpoint` with the norms of `reference` into the folder `out`, and return this folder.

    Both are exported backbones of one architecture. Every learnable tensor W (weights of convolutions, scales and
    shifts of batch norm) becomes W |R| / |W| with the reference's tensor R and Frobenius norms. Then running statistics
    no longer fit (a variance scales with the square), so they are estimated again on `images`: the mean over at most
    200 batches of 64 random crops at the resolution of the card. With `literal`, running statistics are rescaled like
    weights, as in the authors' script, and no image is read.

    The new card is the old one with another name (default: the old one with `-rescaled`) and method; its source says
    what was done, with the hash of the original weights.

    Raises:
        PretrainError: a folder holds no backbone with its card, the architectures differ, there are no images, the name
            is not valid, or `out` is one of the two folders.
        FileError: `out` cannot be written.
    """
    if out.resolve() in (checkpoint.resolve(), reference.resolve()):
        raise PretrainError(f"{out} holds what is to be read; choose another --out")
    if (images is None) != literal:
        raise PretrainError(
            "give either --data IMAGES, on which batch norm is estimated anew, or --literal, which rescales its "
            "running statistics as the authors' script does and reads no image"
        )
    start, norms = read_exported(checkpoint), read_exported(reference)
    card, model = (found.card for found in (start, norms))
    if card.architecture != model.architecture:
        raise PretrainError(
            f"{checkpoint} is a {card.architecture}, but the reference {reference} a {model.architecture}"
        )
    backbone = start.build()
    learnable = {key for key, _ in backbone.named_parameters()}
    backbone.load_state_dict(rescaled(start.tensors, norms.tensors, None if literal else learnable))
    done = f"densebench norm-rescale: norms of {model.name} ({model.sha256[:12]})"
    if images is None:
        done += ", running statistics like weights"
    else:
        seen = estimate_batch_norm(backbone, _batches(images, card, workers))
        data = f"{images.root.resolve().name} ({images.fingerprint()[:12]})"
        done += f", batch norm estimated on {seen} crops of {data}"
    changed = {
        "name": name or f"{card.name}-rescaled",
        "method": f"{card.method} + NormRescale",
        "source": Source(format=done, file=WEIGHTS, sha256=card.sha256, key_prefix=""),
        "code_commit": code_commit(),
        "pretraining": card.pretraining.model_copy(update={"group": None}),  # no longer that recipe's weights
    }
    write_exported(out, backbone.state_dict(), card.model_dump() | changed)
    return out


def rescaled(
    weights: Mapping[str, Tensor], reference: Mapping[str, Tensor], names: set[str] | None = None
) -> dict[str, Tensor]:
    """`weights` with the norms of the reference's tensors; the directions stay.

    This concerns the tensors in `names`, or with None all floating-point tensors. A tensor of zeros stays.
    """

    def scaled(key: str, w: Tensor) -> Tensor:
        if not w.is_floating_point() or (names is not None and key not in names):
            return w
        norm = w.double().norm()
        return w if norm == 0 else (w.double() * (reference[key].double().norm() / norm)).to(w.dtype)

    return {key: scaled(key, w) for key, w in weights.items()}


@torch.no_grad()
def estimate_batch_norm(backbone: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the running statistics of `backbone` to their mean over `batches` (N, 3, S, S); returns the images seen."""
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch then averages over all batches
    backbone.train()
    seen = 0
    for pixels in batches:
        backbone(pixels)
        seen += len(pixels)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return seen


def _batches(images: ImageSource, card: Card, workers: int) -> Iterable[Tensor]:
    """Random crops of the images, without color operations, normalized and ordered as the backbone expects."""
    spec = ViewSpec("crop", size=card.pretraining.resolution or 224, scale=(0.2, 1.0))
    backwards = card.color_order == "BGR"
    mean, std = (tuple(reversed(x)) if backwards else x for x in (card.mean, card.std))
    plan = ViewPlan((spec,), mean=mean, std=std)  # type: ignore[arg-type]  # reversed, it still has three entries
    size = min(BATCH, len(images))
    steps = min(MAX_BATCHES, steps_per_epoch(len(images), size))

    def pixels(crop: Crop) -> Tensor:
        x = finish_views(crop, spec, plan).pixels
        return x.flip(1) if backwards else x

    crops = crop_batches(images, plan, Loading(size, workers=workers))
    return (pixels(crop) for (crop,) in islice(crops, steps))
