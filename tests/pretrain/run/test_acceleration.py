"""Switches of the training loop: set and put back, nothing on a CPU, and the GPU's time between steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from toy import write_images

from pretrain.data.batches import Loading, open_images
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.run import device_gaps, feed
from pretrain.run.acceleration import PLAIN, Acceleration, compile_backbones
from pretrain.run.device_gaps import DeviceGaps

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def switches() -> tuple[bool, str]:
    return torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()


def test_switches_are_put_back() -> None:
    before = switches()
    with Acceleration(cudnn_benchmark=True, tf32=True).applied(CUDA):
        assert switches() == (True, "high")
        with PLAIN.applied(CUDA):
            assert switches() == (True, "high"), "what the user set himself stays"
    assert switches() == before
    with Acceleration(cudnn_benchmark=True, tf32=True).applied(CPU):
        assert switches() == before


def test_copies_of_the_backbone_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: compiled.append(module))
    backbone, momentum = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
    compile_backbones(nn.ModuleList([backbone, nn.Linear(4, 2), momentum]), backbone)
    assert compiled == [backbone, momentum]


class Mark:
    """Stands in for a CUDA event: one every so many milliseconds."""

    def __init__(self, at: float) -> None:
        self.at, self.reached = at, False

    def synchronize(self) -> None:
        self.reached = True

    def elapsed_time(self, later: "Mark") -> float:
        return later.at - self.at


def test_the_time_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0, 10, 12, 20, 25, 35, 40, 60])  # begin, end of four steps
    monkeypatch.setattr(device_gaps, "_mark", lambda: Mark(next(times)))
    gaps = DeviceGaps(CUDA)

    def steps(count: int) -> None:
        for _ in range(count):
            gaps.step_begins()
            gaps.step_ends()

    steps(1)
    assert gaps.close() is None
    steps(2)
    assert gaps.close() == pytest.approx((2 + 5) / (35 - 10))
    steps(1)
    assert gaps.close() == pytest.approx(5 / (60 - 35))


def test_a_cpu_has_no_time_between_steps() -> None:
    gaps = DeviceGaps(CPU)
    for _ in range(3):
        gaps.step_begins()
        gaps.step_ends()
    assert gaps.close() is None


def test_prefetch_changes_no_view(tmp_path: Path) -> None:
    source = open_images(write_images(tmp_path / "images", 9))
    plan = ViewPlan((ViewSpec("only", 12, (0.3, 1.0)),))
    fed = [
        list(
            feed.feed(
                source,
                plan,
                Loading(4, seed=3, workers=0),
                CPU,
                epochs=2,
                first_step=1,
                prefetch=prefetch,
            )
        )
        for prefetch in (False, True)
    ]
    assert len(fed[0]) == len(fed[1]) == 3
    for (plain, _), (ahead, _) in zip(*fed, strict=True):
        assert torch.equal(plain[0].pixels, ahead[0].pixels) and torch.equal(plain[0].image_id, ahead[0].image_id)


def test_steps_wait_for_views_and_views_for_no_step_but_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is queued where, and when the host waits; that the views are the same shows on a GPU alone."""
    said: list[str] = []

    class Stream:
        def __init__(self, name: object) -> None:
            self.name = name if name == "main" else "side"

        def record_event(self) -> SimpleNamespace:
            number = said.count("step")
            return SimpleNamespace(synchronize=lambda: said.append(f"host waits for step {number}"))

        def wait_stream(self, other: "Stream") -> None:
            said.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        said.append(f"on {stream.name}:")
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", on)
    kept: list[str] = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: kept.append(stream.name))
    side = feed._SideStream(CUDA)

    def make() -> list[View]:
        said.append("views")
        return [View(*[torch.zeros(1)] * 4)] * 2

    for _ in range(4):
        assert len(side.run(make)) == 2
        said.append("step")
    turn = ["on side:", "views", "main waits for side", "step"]
    assert said == [*turn, *turn, "host waits for step 0", *turn, "host waits for step 1", *turn]
    assert kept == ["main"] * 3 * 2 * 4
