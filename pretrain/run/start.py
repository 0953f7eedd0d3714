"""The starting weights of a run: an exported backbone instead of random initialization."""

from __future__ import annotations

from pathlib import Path

from pretrain.data.views import ViewPlan
from pretrain.errors import PretrainError
from pretrain.exported import ExportedBackbone, read_exported
from pretrain.recipes import Recipe


def read_start(init: Path | None, recipe: Recipe) -> ExportedBackbone | None:
    """The backbone in the exported folder `init` from which a run of `recipe` starts, if there is one.

    Raises:
        PretrainError: the recipe needs one and none is named; the folder is damaged; the backbone is of another
            architecture, or was trained on BGR images, while all views are RGB.
    """
    if init is None:
        if recipe.needs_init:
            raise PretrainError(
                f"recipe {recipe.name} tunes a trained {recipe.backbone}: name its checkpoint, --init CHECKPOINT"
            )
        return None
    start = read_exported(init)
    if start.card.architecture != recipe.backbone:
        raise PretrainError(
            f"{init} holds a {start.card.architecture}, but recipe {recipe.name} trains a {recipe.backbone}: "
            f"start from another checkpoint, or add --set method.backbone={start.card.architecture}"
        )
    if start.card.color_order != "RGB":
        raise PretrainError(
            f"{init} expects {start.card.color_order} images, but views are RGB: reverse the input channels of its "
            "first convolution and import it as RGB"
        )
    return start


def other_normalisation(start: ExportedBackbone, plan: ViewPlan) -> str | None:
    """Note for a user whose starting weights were trained on images with another normalization."""
    card = start.card
    if (tuple(card.mean), tuple(card.std)) == (tuple(plan.mean), tuple(plan.std)):
        return None
    return (
        f"note: {card.name} was trained with mean {_numbers(card.mean)} and std {_numbers(card.std)}; "
        f"this method's views have mean {_numbers(plan.mean)} and std {_numbers(plan.std)}"
    )


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
