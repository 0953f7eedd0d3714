from __future__ import annotations

import typing
from dataclasses import replace

import pytest
import torch

from pretrain.data.views import Crop, View, ViewPlan, ViewSpec
from pretrain.errors import PretrainError


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"scale": (0.0, 1.0)},
        {"scale": (0.5, 0.2)},
        {"scale": (0.2, 1.5)},
        {"ratio": (0.0, 1.0)},
        {"ratio": (2.0, 1.0)},
        {"flip": 1.5},
        {"interpolation": "nearest"},
        {"overlap": ("key", 1.5)},
    ],
    ids=str,
)
def test_impossible_views_are_refused_with_their_name(wrong: dict[str, typing.Any]) -> None:
    with pytest.raises(PretrainError, match="view 'query'"):
        replace(ViewSpec("query", 64, (0.2, 1.0)), **wrong)


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(PretrainError, match="at least one view"):
        ViewPlan(())
    with pytest.raises(PretrainError, match="above 0"):
        ViewPlan((ViewSpec("v", 8, (0.2, 1.0)),), std=(1.0, 0.0, 1.0))
    key = ViewSpec("key", 8, (0.2, 1.0))
    for other in ("small", "query"):  # itself, and one that does not exist
        with pytest.raises(PretrainError, match=f"no earlier view '{other}'"):
            ViewPlan((key, ViewSpec("small", 8, (0.2, 1.0), overlap=(other, 0.1))))


def test_annotations_resolve_at_run_time() -> None:
    """Recipes are overridden from the command line by the types of their fields."""
    for data in (ViewSpec, ViewPlan, Crop, View):
        assert typing.get_type_hints(data)


def test_a_moved_crop_keeps_its_drawn_numbers_and_image_ids_on_the_host() -> None:
    crop = Crop(
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(2, 4),
        torch.zeros(2) > 0,
        torch.arange(2),
        torch.ones(2, 5),
    )
    moved = crop.to("meta")
    assert {t.device.type for t in (moved.pixels, moved.box, moved.flip)} == {"meta"}
    assert moved.colour is crop.colour and moved.image_id is crop.image_id
