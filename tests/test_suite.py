"""The suite itself: tests that are not marked `cuda` run on the CPU."""

import torch


def test_no_gpu_is_found_by_accident() -> None:
    assert torch.cuda.device_count() == 0
    assert not torch.cuda.is_available()
