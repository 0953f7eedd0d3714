"""Fixtures and settings shared by all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Slow machines are no failures, and continuous integration sees the same examples every time.
settings.register_profile(
    "suite", deadline=None, derandomize=bool(os.environ.get("CI")), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cuda", action="store_true", help="run the tests marked `cuda`, and no others, on a GPU")


def pytest_configure(config: pytest.Config) -> None:
    """Tests are for the CPU unless marked `cuda`: no code under test, in no process, finds a GPU by itself.

    Nothing has used CUDA yet, and not before its first use does it read the variable. Nor do tests depend on the width
    of a terminal.
    """
    os.environ.pop("COLUMNS", None)
    if not config.getoption("--cuda"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--cuda` only tests marked so are left, without it they are skipped."""
    cuda = [item for item in items if item.get_closest_marker("cuda")]
    missing = "needs a GPU: pytest --cuda"
    if config.getoption("--cuda"):
        config.hook.pytest_deselected(items=[item for item in items if item not in cuda])
        items[:] = cuda
        import torch

        missing = "" if torch.cuda.is_available() else "PyTorch finds no GPU"
    if missing:
        for item in cuda:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data root of real mini data beside the checkout; the test is skipped where it is missing."""
    root = Path(__file__).parents[1].parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"real mini data not found at {root}")
    return root
