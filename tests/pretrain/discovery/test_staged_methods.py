"""The small recipes of methods with stages, stopped in trainings and in computations, go on to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import write_images

from pretrain.data.batches import open_images
from pretrain.discovery import correspondence
from pretrain.discovery.masks import Clusters
from pretrain.export import export
from pretrain.exported import read_card
from pretrain.methods import all_recipes
from pretrain.methods.byol import BYOL
from pretrain.recipes import Recipe, override
from pretrain.run.train import train

SETTINGS: dict[str, Any] = {"workers": 0, "log_every": 1, "checkpoint_seconds": 0, "device": "cpu"}


class StoppedError(Exception):
    pass


def shortened(name: str) -> Recipe:
    """Two steps a training, on small views."""
    recipe = all_recipes()[name]
    trainings = ["", *(f"stages.{stage.name}." for stage in recipe.stages if isinstance(stage, Recipe))]
    changes = ["epochs=1", "batch_size=4", "schedule.warmup_epochs=0", "precision=fp32", "method.view_size=64"]
    return override(recipe, [training + change for training in trainings for change in changes])


def ends(run: Path) -> dict[str, bytes]:
    """All weights and optimizers' states, and the products."""
    found = {str(file.relative_to(run)): file.read_bytes() for file in run.rglob("product")}
    for file in run.rglob("checkpoint.pt"):
        state = torch.load(file, weights_only=True)
        buffers = {str(key): value["momentum_buffer"] for key, value in state["optimizer"]["state"].items()}
        for key, value in {**state["method"], **buffers}.items():
            found[f"{file.relative_to(run)} {key}"] = value.contiguous().numpy().tobytes()
    return found


def stopping(function: Callable[..., Any], moments: tuple[int, ...]) -> Callable[..., Any]:
    """`function`, that raises at these of its calls."""
    calls = iter(range(1, 10**6))

    def stops(*args: Any, **kwargs: Any) -> Any:
        if next(calls) in moments:
            raise StoppedError
        return function(*args, **kwargs)

    return stops


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "owner", "part"),
    [("orl-mini", correspondence, "top_pairs"), ("cyborgs-mini", Clusters, "cluster")],
)
def test_a_staged_run_that_was_stopped_goes_on_exactly(
    name: str, owner: Any, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, recipe = open_images(write_images(tmp_path / "images", 8)), shortened(name)
    whole = train(recipe, source, tmp_path / "whole", **SETTINGS)
    monkeypatch.setattr(BYOL, "after_step", stopping(BYOL.after_step, (2, 5)))
    monkeypatch.setattr(owner, part, stopping(getattr(owner, part), (1, 3)))
    for stops in range(10):
        try:
            train(recipe, source, tmp_path / "run", resume=stops > 0, **SETTINGS)
            break
        except StoppedError:
            continue
    assert stops == 4
    expected, got = ends(whole), ends(tmp_path / "run")
    assert expected.keys() == got.keys()
    assert not [key for key, value in expected.items() if value != got[key]]
    card = read_card(export(whole)).pretraining
    trained = [one for one in (*recipe.stages, recipe) if isinstance(one, Recipe)]
    crops = [sum(spec.trained for spec in one.method.build().plan.specs) for one in trained]
    assert (card.epochs, card.image_views) == (recipe.first_epoch + 1, 8 * sum(crops))
