"""Who trains in bfloat16 on a processor that is slow at it is told, nobody else."""

import pytest
import torch

from pretrain.run.precision import slow_precision


@pytest.mark.parametrize(
    ("precision", "device", "gpu", "tiles", "told"),
    [
        ("bf16", None, False, False, True),
        ("bf16", "cpu", True, False, True),
        ("bf16", None, False, True, False),
        ("bf16", None, True, False, False),
        ("bf16", "cuda:1", True, False, False),
        ("fp32", None, False, False, False),
    ],
)
def test_advice(
    precision: str, device: str | None, gpu: bool, tiles: bool, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    assert bool(slow_precision(precision, device)) == told  # type: ignore[arg-type]
