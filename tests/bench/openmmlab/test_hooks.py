"""Hooks alone, on a runner that is only as much of one as they read."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.openmmlab import prepare_openmmlab

prepare_openmmlab()

from bench.errors import BenchError  # noqa: E402
from bench.openmmlab.checkpoint_hook import CheckpointHook  # noqa: E402
from bench.openmmlab.hooks import (  # noqa: E402
    DivergedError,
    Executed,
    GuardHook,
    ProgressHook,
    RecordHook,
    RehearsalHook,
    RehearsedError,
)
from bench.protocols import load_protocol  # noqa: E402


def runner(iterations: int, rate: float = 0.1) -> Any:
    optimizer = SimpleNamespace(param_groups=[{"lr": rate}])
    return SimpleNamespace(
        iter=0, max_iters=iterations, world_size=1, optim_wrapper=SimpleNamespace(optimizer=optimizer)
    )


def train(hooks: list[Any], run: Any, losses: list[float], first: int = 0) -> None:
    for hook in hooks:
        hook.before_train(run)
    for i, loss in enumerate(losses, start=first):
        run.iter = i
        samples = [SimpleNamespace(img_path=f"/data/{i}-{k}.jpg") for k in range(4)]
        batch = {"inputs": [None] * 4, "data_samples": samples}
        for hook in hooks:
            hook.before_train_iter(run, i, batch)
        outputs = {"loss": torch.tensor(loss, requires_grad=True), "note": "text"}
        for hook in hooks:
            hook.after_train_iter(run, i, batch, outputs)
        run.optim_wrapper.optimizer.param_groups[0]["lr"] /= 2


def test_record_keeps_the_rate_that_was_used() -> None:
    record = Executed()
    train([RecordHook(record)], runner(3, rate=0.4), [3.0, 2.0, 1.0])
    assert record.rates == [0.4, 0.2, 0.1]
    assert record.losses == {"loss": 1.0} and record.iterations == 3
    assert record.images_seen == 12
    assert record.data_seconds >= 0 and record.step_seconds >= 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_stops_the_run(bad: float) -> None:
    record = Executed()
    with pytest.raises(
        DivergedError, match=r"loss was .* at iteration 2; its images were 1-0\.jpg, 1-1\.jpg"
    ) as raised:
        train([RecordHook(record)], runner(3), [1.0, bad, 1.0])
    assert record.iterations == 2
    assert raised.value.images == [f"/data/1-{k}.jpg" for k in range(4)]
    assert (raised.value.values["iteration"], raised.value.values["learning_rate"]) == (2, 0.05)


@pytest.mark.parametrize(("iterations", "lines"), [(7, 7), (10, 10), (25, 10), (130, 10)])
def test_progress_is_ten_lines_at_most(iterations: int, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    record = Executed()
    train([RecordHook(record), ProgressHook(record)], runner(iterations), [1.0] * iterations)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == lines
    assert printed[-1].startswith(f"iteration {iterations}/{iterations}  loss 1.000  ")
    assert printed[-1].endswith("0 s left")


def test_a_continued_run_is_timed_from_where_it_continued(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 100.0, 200.0, 300.0])
    monkeypatch.setattr("bench.openmmlab.hooks.time.perf_counter", lambda: next(clock))
    record = Executed(rates=[0.1] * 90, losses={"loss": 1.0})
    train([ProgressHook(record)], runner(100), [1.0] * 3, first=90)
    # 100 s an iteration, of this process alone; a line each minute
    assert [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()] == [
        "15 min left", "13 min left", "12 min left",
    ]  # fmt: skip


class Waiting(Executed):
    """A record that has waited a quarter of a second more each time it is asked."""

    waited = 0.0

    @property
    def data_seconds(self) -> float:  # type: ignore[override]
        self.waited += 0.25
        return self.waited

    @data_seconds.setter
    def data_seconds(self, value: float) -> None:
        """Executed sets it."""


def test_a_rehearsal_times_what_follows_the_first_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    def rehearse(iterations: int, ends: list[float], planned: int = 100, passed: int = 1) -> float:
        clock = iter(ends)
        monkeypatch.setattr("bench.openmmlab.hooks.time.perf_counter", lambda: next(clock))
        record = Waiting()
        hook = RehearsalHook(record, iterations, most_seconds=50, passed=passed)
        with pytest.raises(RehearsedError):
            train([hook], runner(planned), [1.0] * 10)
        assert not list(clock)
        assert hook.data_seconds == pytest.approx(0.25)
        return hook.seconds

    assert rehearse(3, [0.0, 10.0, 11.0, 13.0, 16.0]) == 2.0
    assert rehearse(3, [0.0, 60.0, 80.0]) == 20.0
    assert rehearse(3, [0.0, 10.0, 14.0], planned=2) == 4.0
    assert rehearse(3, [0.0, 10.0], planned=1) == 10.0
    assert rehearse(2, [0.0, 10.0, 20.0, 21.0, 23.0], passed=2) == 1.5
    assert rehearse(2, [0.0, 10.0, 20.0], planned=2, passed=2) == 10.0


def test_a_run_that_ends_early_is_no_result() -> None:
    protocol = load_protocol("mini_voc_seg_fcn")
    hook = GuardHook(protocol.plan, None, {}, Executed(rates=[protocol.plan.learning_rate]))  # type: ignore[arg-type]
    ended: Any = SimpleNamespace(iter=1)
    with pytest.raises(BenchError, match="1 iterations were executed"):
        hook.after_train(ended)


def test_guards_run_before_anything_else_and_rates_are_read_before_they_change() -> None:
    from mmengine.hooks import ParamSchedulerHook
    from mmengine.runner import get_priority

    hooks = (GuardHook, RecordHook, ParamSchedulerHook, CheckpointHook)
    first, then, schedules, saves = (get_priority(hook.priority) for hook in hooks)
    assert first < then < schedules < saves
