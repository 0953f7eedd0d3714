"""Synchronised batch norm in two Gloo processes against plain batch norm on the whole batch.

On a GPU it is made of the kernels of `nn.SyncBatchNorm`. Here these are written out, to see that they are put together
well; `pytest --cuda` runs them.
"""

import copy
from pathlib import Path

import gloo
import pytest
import torch
from fake_cuda import fake_cuda
from torch import Tensor, nn

from pretrain.nets import batchnorm
from pretrain.nets.batchnorm import SplitBatchNorm2d, SynchronisedBatchNorm, synchronised
from pretrain.parts.distributed import gather

STEPS, N = 3, 6
SHAPES = {"vectors": (N, 4), "maps": (N, 4, 3, 2), "channels last": (N, 4, 3, 2), "unequal": (N, 4, 3, 2)}


def network(kind: str, *, affine: bool) -> nn.Module:
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(4, affine=affine) if kind == "vectors" else nn.BatchNorm2d(4, affine=affine)
    layer = nn.Linear(4, 4) if kind == "vectors" else nn.Conv2d(4, 4, 1)
    net = nn.Sequential(layer, nn.Sequential(norm, nn.ReLU()), copy.deepcopy(norm)).double()
    net[2].momentum = None  # its running statistics are the means over all batches
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


CASES = [(kind, affine, kernels) for kind in SHAPES for affine in (True, False) for kernels in (True, False)]


class Kernels:
    """What the kernels compute, for sums over all dimensions but the second."""

    @staticmethod
    def batch_norm_stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(x, _dims(x), correction=0)
        return mean, (variance + eps).rsqrt()

    @staticmethod
    def batch_norm_gather_stats_with_counts(
        x: Tensor, means: Tensor, inverse_stds: Tensor, running_mean: Tensor, running_var: Tensor, *rest: object
    ) -> tuple[Tensor, Tensor]:
        momentum, eps, counts = rest
        n, share = counts.sum(), (counts / counts.sum())[:, None]
        mean = (share * means).sum(0)
        variance = (share * (inverse_stds**-2 - eps + (means - mean) ** 2)).sum(0)
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (variance * n / (n - 1) - running_var)
        return mean, (variance + eps).rsqrt()

    @staticmethod
    def batch_norm_elemt(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, inverse_std: Tensor, eps: float
    ) -> Tensor:
        y = (x - _wide(mean, x)) * _wide(inverse_std, x)
        return y if weight is None or bias is None else y * _wide(weight, x) + _wide(bias, x)

    @staticmethod
    def batch_norm_backward_reduce(
        dy: Tensor, x: Tensor, mean: Tensor, inverse_std: Tensor, weight: Tensor | None, *needed: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sum_dy, sum_dy_x = dy.sum(_dims(x)), (dy * (x - _wide(mean, x))).sum(_dims(x))
        return sum_dy, sum_dy_x, sum_dy_x * inverse_std, sum_dy.clone()

    @staticmethod
    def batch_norm_backward_elemt(
        dy: Tensor, x: Tensor, mean: Tensor, inverse_std: Tensor, weight: Tensor | None, *sums: Tensor
    ) -> Tensor:
        sum_dy, sum_dy_x, counts = sums
        assert counts.dtype == torch.int32
        slope = _wide(inverse_std**2 * sum_dy_x / counts.sum(), x)
        scale = inverse_std if weight is None else inverse_std * weight
        return (dy - _wide(sum_dy / counts.sum(), x) - (x - _wide(mean, x)) * slope) * _wide(scale, x)


KERNELS = [name for name in vars(Kernels) if name.startswith("batch_norm")]


def _dims(x: Tensor) -> list[int]:
    return [d for d in range(x.dim()) if d != 1]


def _wide(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.dim() - 2))


def check(rank: int, world: int, folder: Path) -> None:
    for kind, affine, kernels in CASES:
        with pytest.MonkeyPatch.context() as patch:
            if kernels:
                patch.setattr(batchnorm, "has_kernels", lambda x: True)
                for name in KERNELS:
                    patch.setattr(torch, name, getattr(Kernels, name))
            torch.save(train(kind, affine, rank, world), folder / f"{kind}-{affine}-{kernels}-{rank}.pt")
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


def test_two_processes_are_one(tmp_path: Path) -> None:
    gloo.run(check, 2, tmp_path)
    for kind, affine, kernels in CASES:
        expected, state = train(kind, affine, 0, 1)
        found = [torch.load(tmp_path / f"{kind}-{affine}-{kernels}-{rank}.pt", weights_only=True) for rank in range(2)]
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


def test_on_a_gpu_it_is_the_kernels_of_torch_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same module: which way is taken is decided by where its input is."""
    called = []
    for name in KERNELS:
        monkeypatch.setattr(torch, name, lambda *a, name=name: (called.append(name), getattr(Kernels, name)(*a))[1])
    norm = SynchronisedBatchNorm(nn.BatchNorm2d(4))
    norm(torch.randn(3, 4, 2, 2))
    assert called == []
    with fake_cuda(monkeypatch) as gpu:
        gpu.move(norm)
        x = torch.randn(3, 4, 2, 2, device="cuda", requires_grad=True)
        y = norm(x)
        y.sum().backward()
        assert y.shape == x.shape and x.grad is not None and norm.weight.grad is not None
        assert called == KERNELS
        norm.eval()(x)
    assert called == KERNELS
    assert gpu.waits == []
    assert set(norm.state_dict()) == set(nn.BatchNorm2d(4).state_dict())


@pytest.mark.cuda
@pytest.mark.parametrize(("kind", "affine"), [(kind, affine) for kind in SHAPES for affine in (True, False)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_kernels_on_a_gpu_are_plain_batch_norm(kind: str, affine: bool, dtype: torch.dtype) -> None:
    """One process, whose batch is the whole."""
    weights = torch.float64 if dtype == torch.float64 else torch.float32
    norm = nn.BatchNorm1d(4, affine=affine) if kind == "vectors" else nn.BatchNorm2d(4, affine=affine)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    plain = norm.to("cuda", weights)
    ours = SynchronisedBatchNorm(copy.deepcopy(norm))
    for step in range(STEPS):
        x, target = (t.to("cuda", dtype) for t in batch(kind, step))
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        outputs = [module(each) for module, each in zip((plain, ours), inputs, strict=True)]
        for y in outputs:
            (y * target).square().sum().backward()
        close = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 0.05, "atol": 0.05}
        torch.testing.assert_close(outputs[1], outputs[0], **close)
        torch.testing.assert_close(inputs[1].grad, inputs[0].grad, **close)
        for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, **close)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-5, atol=1e-6)
