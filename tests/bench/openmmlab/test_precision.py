"""bfloat16 where it is asked for, float32 at every border."""

import pytest
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.openmmlab import precision
from bench.openmmlab.precision import use_bf16


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.levels = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.output = nn.Linear(8, 2)
        self.seen: list[torch.dtype] = []
        self.tower[0].register_forward_hook(lambda _m, _i, out: self.seen.append(out.dtype))

    def forward(self, x: Tensor) -> Tensor:
        x = self.tower(x).mean((2, 3))
        self.seen.append(x.dtype)
        for level in self.levels:
            x = level(x)
            self.seen.append(x.dtype)
        return self.output(x)


@pytest.fixture(autouse=True)
def any_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_bf16", lambda device: True)


def test_named_modules_alone_run_in_bf16() -> None:
    torch.manual_seed(0)
    net, images = Net(), torch.randn(2, 3, 8, 8)
    expected = net(images)
    names = list(net.state_dict())
    net.seen.clear()
    assert use_bf16(net, ["tower", "levels.*"], torch.device("cpu")) == "bf16"
    found = net(images)
    assert net.seen == [torch.bfloat16, torch.float32, torch.float32, torch.float32]
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
    assert list(net.state_dict()) == names
    found.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())


def test_lists_of_maps_are_converted_too() -> None:
    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Identity()
            self.backbone.forward = lambda x: (x @ x, [x @ x])  # type: ignore[method-assign]

    net = Pyramid()
    use_bf16(net, ["backbone"], torch.device("cpu"))
    first, (second,) = net.backbone(torch.eye(4))
    assert first.dtype == second.dtype == torch.float32


def test_a_name_that_matches_nothing_is_an_error() -> None:
    for pattern in ("towr", "levels.2", "tower.*.x"):
        with pytest.raises(BenchError, match="no such module"):
            use_bf16(Net(), [pattern], torch.device("cpu"))


def test_machines_without_fast_bf16_stay_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_bf16", lambda device: False)
    net, images = Net(), torch.randn(2, 3, 8, 8)
    expected = net(images)
    assert use_bf16(net, ["tower"], torch.device("cpu")) == "fp32"
    assert torch.equal(net(images), expected)
    assert use_bf16(net, [], torch.device("cpu")) == "fp32"
