"""Synchronised batch norm in two Gloo processes against plain batch norm on the whole batch."""

import copy
from pathlib import Path

import gloo
import pytest
import torch
from torch import Tensor, nn

from pretrain.batchnorm import SplitBatchNorm2d, SynchronisedBatchNorm, synchronised
from pretrain.distributed import gather

STEPS, N = 3, 6
SHAPES = {"vectors": (N, 4), "maps": (N, 4, 3, 2), "channels last": (N, 4, 3, 2), "unequal": (N, 4, 3, 2)}


def network(kind: str, *, affine: bool) -> nn.Module:
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(4, affine=affine) if kind == "vectors" else nn.BatchNorm2d(4, affine=affine)
    layer = nn.Linear(4, 4) if kind == "vectors" else nn.Conv2d(4, 4, 1)
    net = nn.Sequential(layer, nn.Sequential(norm, nn.ReLU()), copy.deepcopy(norm)).double()
    for name, parameter in net.named_parameters():
        parameter.data.normal_() if "bias" in name else parameter.data.uniform_(0.5, 2)
    return net


def batch(kind: str, step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x, target = torch.randn(2, *SHAPES[kind], generator=generator, dtype=torch.float64) * 3 + 1
    return (x.contiguous(memory_format=torch.channels_last) if kind == "channels last" else x), target


def rows(kind: str, rank: int, world: int) -> slice:
    if world == 1:
        return slice(0, N)
    first = 2 if kind == "unequal" else N // 2
    return slice(0, first) if rank == 0 else slice(first, N)


def train(kind: str, affine: bool, rank: int, world: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Everything there is to compare: outputs and input gradients of the own rows, and the state in the end."""
    net = synchronised(network(kind, affine=affine))
    kept: list[Tensor] = []
    for step in range(STEPS):
        x, target = (t[rows(kind, rank, world)] for t in batch(kind, step))
        x = x.clone().requires_grad_()
        y = net(x)
        net.zero_grad()
        (y * target).square().sum().backward()
        assert x.grad is not None
        kept += [y.detach(), x.grad]
        with torch.no_grad():
            for p in net.parameters():
                assert p.grad is not None
                p -= 0.01 * gather(p.grad[None]).sum(0)
    net.eval()
    kept.append(net(batch(kind, 0)[0]).detach()[rows(kind, rank, world)])
    return kept, net.state_dict()


CASES = [(kind, affine) for kind in SHAPES for affine in (True, False)]


def check(rank: int, world: int, folder: Path) -> None:
    for kind, affine in CASES:
        torch.save(train(kind, affine, rank, world), folder / f"{kind}-{affine}-{rank}.pt")
    kinds = nn.ModuleDict({"plain": nn.BatchNorm2d(4), "split": SplitBatchNorm2d(4, splits=2)})
    names = set(kinds.state_dict())
    converted = synchronised(kinds)
    assert converted is kinds
    assert set(converted.state_dict()) == names
    assert [type(m) for m in converted.values()] == [SynchronisedBatchNorm, SplitBatchNorm2d]
    half = synchronised(nn.BatchNorm1d(4))
    with torch.autocast("cpu", torch.bfloat16):
        y = half(torch.randn(5, 4).bfloat16())
    assert y.dtype == torch.bfloat16


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    gloo.run(check, 2, tmp_path)
    for kind, affine in CASES:
        expected, state = train(kind, affine, 0, 1)
        found = [torch.load(tmp_path / f"{kind}-{affine}-{rank}.pt", weights_only=True) for rank in range(2)]
        for i, value in enumerate(expected):
            joined = torch.cat([kept[i] for kept, _ in found])
            torch.testing.assert_close(joined, value, rtol=1e-9, atol=1e-11, msg=lambda m: f"{kind} {affine} {m}")  # noqa: B023
        for _, their_state in found:
            assert their_state.keys() == state.keys()
            for name, value in state.items():
                torch.testing.assert_close(their_state[name], value, rtol=1e-9, atol=1e-11)


def test_one_process_keeps_its_module() -> None:
    net = nn.Sequential(nn.BatchNorm1d(4))
    assert synchronised(net) is net
    assert type(net[0]) is nn.BatchNorm1d
