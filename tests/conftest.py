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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data root of real mini data beside the checkout; the test is skipped where it is missing."""
    root = Path(__file__).parents[1].parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"real mini data not found at {root}")
    return root
