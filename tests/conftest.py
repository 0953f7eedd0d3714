"""Fixtures shared by all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data root of real mini data beside the checkout; the test is skipped where it is missing."""
    root = Path(__file__).parents[1].parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"real mini data not found at {root}")
    return root
