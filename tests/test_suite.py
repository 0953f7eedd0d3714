"""The suite itself: tests that are not marked `cuda` run on the CPU."""

from collections import Counter
from pathlib import Path

import torch


def test_no_gpu_is_found_by_accident() -> None:
    assert torch.cuda.device_count() == 0
    assert not torch.cuda.is_available()


def test_no_two_files_have_the_same_name() -> None:
    """Without packages below `tests`, pytest can import one file of a name only."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]
