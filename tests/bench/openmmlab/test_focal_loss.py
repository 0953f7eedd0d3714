"""mmcv's sigmoid focal loss, which is written in PyTorch, against a float64 loop, torchvision's, and mmdet's own."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss as torchvisions

from bench.openmmlab import ops, prepare_openmmlab
from bench.openmmlab.ops import MissingOpError, uses_compiled_ops

prepare_openmmlab()
import mmcv.ops  # noqa: E402
from mmdet.models.losses.focal_loss import FocalLoss, sigmoid_focal_loss  # noqa: E402

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
torchvision_ops = pytest.mark.skipif(uses_compiled_ops(), reason="mmcv has its compiled operators")


def of_one(score: float, wanted: bool, gamma: float, alpha: float) -> float:
    """Loss of one score, by the definition; `exp` and `log1p` keep small probabilities exact."""
    signed = score if wanted else -score
    wrong = 1 / (1 + math.exp(signed)) if signed < 700 else 0.0
    logarithm = -math.log1p(math.exp(-signed)) if signed > 0 else signed - math.log1p(math.exp(signed))
    return -(alpha if wanted else 1 - alpha) * wrong**gamma * logarithm


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    rows, classes = draw(st.integers(0, 4)), draw(st.integers(1, 3))
    score = st.floats(-60, 60, width=32)
    scores = draw(st.lists(st.lists(score, min_size=classes, max_size=classes), min_size=rows, max_size=rows))
    target = draw(st.lists(st.integers(0, classes), min_size=rows, max_size=rows))
    shaped = torch.tensor(scores, dtype=torch.float32).reshape(rows, classes)
    return shaped, torch.tensor(target, dtype=torch.int64), draw(st.sampled_from([0.0, 1.5, 2.0])), 0.25


@torchvision_ops
@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_it_is_the_definition(case: tuple[torch.Tensor, torch.Tensor, float, float], device: str) -> None:
    scores, target, gamma, alpha = case
    x = scores.clone().to(device).requires_grad_()
    loss = mmcv.ops.sigmoid_focal_loss(x, target.to(device), gamma, alpha, None, "none")
    expected = [
        [of_one(score, column == wanted, gamma, alpha) for column, score in enumerate(row)]
        for row, wanted in zip(scores.tolist(), target.tolist(), strict=True)
    ]
    assert loss.dtype == torch.float32
    expected_loss = torch.tensor(expected, dtype=torch.float64).reshape(scores.shape)
    torch.testing.assert_close(loss.detach().double().cpu(), expected_loss, rtol=2e-5, atol=1e-30)
    hot = torch.nn.functional.one_hot(target, scores.shape[1] + 1)[:, :-1].double()
    exact = scores.double().requires_grad_()
    theirs = torchvisions(exact, hot, alpha, gamma)
    torch.testing.assert_close(theirs.detach(), expected_loss, rtol=1e-6, atol=1e-12)
    weights = torch.linspace(0.5, 2, scores.numel(), dtype=torch.float64).reshape(scores.shape)
    (loss * weights.to(device)).sum().backward()
    (theirs * weights).sum().backward()
    assert x.grad is not None and exact.grad is not None
    torch.testing.assert_close(x.grad.double().cpu(), exact.grad, rtol=1e-4, atol=1e-6)


@torchvision_ops
def test_its_gradient_is_that_of_its_values() -> None:
    scores = torch.tensor([[-3.0, 0.2], [4.0, -0.7], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 2, 1])
    for reduction in ("none", "mean", "sum"):
        assert torch.autograd.gradcheck(
            lambda x, r=reduction: mmcv.ops.sigmoid_focal_loss(x, target, 2.0, 0.25, None, r), (scores,)
        )


@torchvision_ops
@pytest.mark.parametrize("device", DEVICES)
def test_blocks_of_rows_and_half_precision_change_nothing(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(13, 3, generator=torch.Generator().manual_seed(0)).to(device)
    target = torch.arange(13, device=device) % 4

    def loss_and_slope(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.clone().requires_grad_()
        loss = mmcv.ops.sigmoid_focal_loss(x, target, 2.0, 0.25, None, "none")
        loss.sum().backward()
        assert x.grad is not None
        return loss.detach(), x.grad

    whole = loss_and_slope(scores)
    half, of_half = loss_and_slope(scores.bfloat16()), loss_and_slope(scores.bfloat16().float())
    monkeypatch.setattr(ops, "MOST_SCORES", 10)  # three rows at a time
    assert all(torch.equal(a, b) for a, b in zip(whole, loss_and_slope(scores), strict=True))
    assert all(torch.equal(a, b.bfloat16()) for a, b in zip(half, of_half, strict=True))


@torchvision_ops
def test_mmdets_loss_is_the_same_on_a_gpu_and_on_a_cpu() -> None:
    """mmdet calls the operator on GPUs only, and computes the loss by its own formula on a CPU."""
    generator = torch.Generator().manual_seed(1)
    scores, target = torch.randn(50, 8, generator=generator), torch.randint(0, 9, (50,), generator=generator)
    weight = (torch.arange(50) % 3 > 0).float()
    on_cpu = FocalLoss(gamma=2.0, alpha=0.25)(scores, target, weight, avg_factor=7.0)
    on_gpu = sigmoid_focal_loss(scores, target, weight, gamma=2.0, alpha=0.25, avg_factor=7.0)
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-6, atol=0)


@torchvision_ops
def test_weights_of_classes_are_refused() -> None:
    with pytest.raises(MissingOpError, match="sigmoid_focal_loss with weights of classes"):
        mmcv.ops.sigmoid_focal_loss(torch.zeros(1, 2), torch.tensor([0]), 2.0, 0.25, torch.ones(2), "none")
