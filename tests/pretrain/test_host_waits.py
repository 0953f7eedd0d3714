"""How often the host waits for the GPU in a step of every method, on a GPU that is not there (`fake_cuda`).

Each wait leaves the GPU without work until the host has queued more. A method that adds one adds its reason here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_cuda import fake_cuda
from staged import computed
from toy import write_images

from pretrain.data import color as colour
from pretrain.data.batches import ImageSource, Loading, crop_batches, open_images
from pretrain.method import Method
from pretrain.methods import METHODS, all_recipes
from pretrain.run.feed import _view
from pretrain.run.train import take_step

WAITS = {
    # The predictor's batch norm is over as many rows as there are slots, which only the device knows. The alternative,
    # a predictor on all 256 slots of every image, costs as much as the backbones.
    "slotcon": 1,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    return open_images(write_images(tmp_path_factory.mktemp("data") / "pictures", 64, classes=2))


@pytest.fixture
def no_cached_matrices() -> Iterator[None]:
    """Those of another device without data, which cannot be mixed with this one's."""
    colour._taps_to_matrix.cache_clear()
    yield
    colour._taps_to_matrix.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("no_cached_matrices")
@pytest.mark.parametrize("method", [m for m in METHODS if m.trains], ids=lambda method: method.info.id)
def test_a_step_waits_as_often_as_is_said_here(
    method: type[Method], source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views from crops in page-locked memory, then a whole step of the small recipe, past its warm-ups."""
    recipe = all_recipes()[f"{method.info.id}-mini"]
    torch.manual_seed(0)
    built = recipe.method.build().train().to(memory_format=torch.channels_last)
    built.products = computed(recipe, source, tmp_path)
    built.prepare(source, tmp_path)
    crops = next(iter(crop_batches(source, built.plan, Loading(recipe.batch_size, workers=0))))
    device = torch.device("cuda")
    with fake_cuda(monkeypatch) as gpu:
        gpu.move(built)
        optimizer = recipe.optimizer.build((n, p) for n, p in built.named_parameters() if p.requires_grad)
        for crop in crops:
            for tensor in vars(crop).values():
                gpu.pin(tensor)
        built.after_step(99, 100)
        for _ in range(2):  # the blur's matrices are sent once a run
            gpu.waits.clear()
            views = [_view(crop, spec, built.plan, device) for crop, spec in zip(crops, built.plan.specs, strict=True)]
        scalars, _ = take_step(built, built, optimizer, recipe, views, seed=0, step=99, steps_per_epoch=100)
        assert {value.device.type for value in scalars.values()} == {"cuda"}
        assert all(p.grad is None or p.grad.shape == p.shape for p in built.parameters())
    assert len(gpu.waits) == WAITS.get(method.info.id, 0), "\n".join(gpu.waits)


def test_what_makes_the_host_wait_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, and beside each its form that does not wait."""
    with fake_cuda(monkeypatch) as gpu:
        x = torch.randn(4, 3, device="cuda")
        mask = x[:, 0] > 0
        large = torch.zeros(2**17, dtype=torch.uint8)
        waiting = (
            lambda: x.sum().item(),
            lambda: bool(mask.any()),
            lambda: x.cpu(),
            lambda: x.mean(0).tolist()[:1],
            lambda: mask.nonzero(),
            lambda: x[mask],
            lambda: x.__setitem__(mask, x[:2]),
            lambda: x.new_tensor([1.0, 2.0]),
            lambda: torch.tensor([1, 2], device="cuda"),
            lambda: torch.arange(3).to("cuda"),
            lambda: large.to("cuda", non_blocking=True),
        )
        not_waiting = (
            lambda: x.sum() + 1,
            lambda: torch.where(mask, 1, 0),
            lambda: x.to(torch.bfloat16),
            lambda: x[torch.zeros(2, dtype=torch.int64, device="cuda")],
            lambda: x.__setitem__(mask, 1.0),
            lambda: x.new_full((2,), 3.0),
            lambda: torch.arange(3).to("cuda", non_blocking=True),
            lambda: large.pin_memory().to("cuda", non_blocking=True),
            lambda: int(torch.arange(3).sum()),
        )
        for number, action in enumerate(waiting):
            gpu.waits.clear()
            action()
            assert len(gpu.waits) == (3 if number == 3 else 1), (number, gpu.waits)
        gpu.waits.clear()
        for action in not_waiting:
            action()
        assert gpu.waits == []


def test_gradients_on_the_fake_device_are_those_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parameter of a network with a custom function gets one of its own shape and type, shared ones included."""
    from pretrain.parts.losses import info_nce, unit

    shared = torch.nn.Linear(4, 4)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), shared, torch.nn.ReLU(), shared)
    with fake_cuda(monkeypatch) as gpu:
        gpu.move(net)
        assert net[2] is net[4] and len(list(net.parameters())) == 6
        with torch.autocast("cuda", torch.bfloat16):
            out = net(torch.randn(5, 3, device="cuda"))
            assert out.dtype == torch.bfloat16
        q = unit(out)
        info_nce(q, q.detach(), torch.randn(7, 4, device="cuda"), 0.2).loss.backward()
        for parameter in net.parameters():
            assert parameter.grad is not None
            assert (parameter.grad.shape, parameter.grad.dtype) == (parameter.shape, parameter.dtype)
    assert gpu.waits == []
