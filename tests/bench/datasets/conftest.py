"""A small generated data root, made once, and a copy of it to damage."""

import shutil
from pathlib import Path

import pytest

from bench.datasets import generate

TRAIN, VAL, PRETRAIN = 6, 4, 5


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "data"
    generate(root, seed=3, train=TRAIN, val=VAL, pretrain=PRETRAIN)
    return root


@pytest.fixture
def root(generated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(generated, tmp_path / "data"))
