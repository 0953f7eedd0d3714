"""Generated data for the tests of whole commands. Being here puts this folder on the import path."""

from pathlib import Path

import pytest

from bench.datasets import generate


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny") / "data"
    generate(root, train=8, val=4, pretrain=16)
    return root
