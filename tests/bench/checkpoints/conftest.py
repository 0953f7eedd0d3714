"""Fixtures: networks that look trained, and a writer of torch files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from synthetic_nets import StateDict, trained_like


@pytest.fixture(scope="session")
def resnet18_state() -> StateDict:
    """torchvision's ResNet-18 without `fc`. Do not change its tensors."""
    return {k: v for k, v in trained_like(torchvision.models.resnet18).items() if not k.startswith("fc.")}


@pytest.fixture(scope="session")
def other_state(resnet18_state: StateDict) -> StateDict:
    """Other weights of the same shapes: a momentum copy."""
    trained = trained_like(torchvision.models.resnet18, seed=1)
    return {k: trained[k] for k in resnet18_state}


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """`save(obj)` writes what `torch.save` writes and returns the file."""

    def _save(obj: Any, name: str = "checkpoint.pth", **options: Any) -> Path:
        torch.save(obj, tmp_path / name, **options)
        return tmp_path / name

    return _save
