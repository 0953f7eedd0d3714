"""Runs that were killed and continued: on a CPU they end with the bits of a run that was not."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from killing import Killed, kill, killed_at
from short_protocols import RATE, changed, checkpoint, reference, short

from bench.datasets import generate
from bench.openmmlab.checkpoints import CHECKPOINT
from bench.openmmlab.loss_log import LOSSES, LossLog
from bench.openmmlab.prepare import prepare_openmmlab
from bench.openmmlab.runner import run_transfer
from bench.openmmlab.stored_weights import WEIGHTS
from bench.protocols import Protocol
from leaderboard.base.errors import Interrupted
from leaderboard.records import Result

ITERATIONS = 3
TIMES = ("finished_at", "wall_seconds", "seconds", "peak_memory_mib")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "data"
    generate(root, train=9, val=2, pretrain=0)
    return root


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


def scheduled(protocol_id: str, workers: int = 0, iterations: int = ITERATIONS) -> Protocol:
    """A short protocol whose learning rate warms up and drops, so that schedulers have a state of their own."""

    def edit(config: dict[str, Any]) -> None:
        config["protocol"]["plan"]["final_learning_rate"] = RATE / 10
        config["param_scheduler"] = [
            {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 2},
            {"type": "MultiStepLR", "milestones": [iterations - 1], "gamma": 0.1, "by_epoch": False},
        ]
        config["train_dataloader"]["num_workers"] = workers

    return changed(short(protocol_id, iterations), edit)


def same(one: Result, other: Result) -> bool:
    """But for times, and for the commit: somebody may make one while this runs."""
    exclude: Any = {**dict.fromkeys(TIMES, True), "environment": {"code_commit"}}
    return one.model_dump(exclude=exclude) == other.model_dump(exclude=exclude)


@pytest.fixture(scope="module")
def whole(data: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Folder and result of a run that nothing stopped."""
    folder, protocol = tmp_path_factory.mktemp("whole"), scheduled("mini_voc_seg_fcn")
    return folder, run_transfer(protocol, backbone, data, reference(protocol), 0, folder)


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_run_ends_with_the_same_bits(
    workers: int,
    data: Path,
    backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare_openmmlab()
    from mmengine.runner import Runner

    protocol = scheduled("mini_voc_seg_fcn", workers)

    def run(folder: str, **more: Any) -> Result:
        return run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / folder, **more)

    whole = run("whole")
    assert not (tmp_path / "whole" / CHECKPOINT).exists()
    with killed_at(3):
        run("killed", checkpoint_seconds=0.0)
    assert "continued" not in capsys.readouterr().out
    if not workers:  # once more, as it is evaluated
        with monkeypatch.context() as context, pytest.raises(Killed):
            context.setattr(Runner, "test", kill)
            run("killed")
        assert "was written after iteration 2" in capsys.readouterr().out
    continued = run("killed")
    done = 2 if workers else ITERATIONS
    assert f"was written after iteration {done}" in capsys.readouterr().out
    for name in (WEIGHTS, "losses.csv", "shares.npz"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert same(continued, whole)
    assert continued.seconds["checkpoints"] > 0 and "checkpoints" not in whole.seconds
    assert continued.seconds["forward_backward"] < sum(continued.seconds.values()) <= continued.wall_seconds + 0.1


def test_a_checkpoint_of_another_run_is_kept(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol, folder = scheduled("mini_voc_seg_fcn"), tmp_path / "run"
    folder.mkdir()
    for name in (CHECKPOINT, LOSSES):
        (folder / name).write_text(f"hours of work: {name}")
    monkeypatch.setattr(LossLog, "write", kill)
    with pytest.raises(Killed):
        run_transfer(protocol, backbone, data, reference(protocol), 0, folder)
    assert (folder / LOSSES).read_text() == "" and not (folder / CHECKPOINT).exists()
    for name, unused in ((CHECKPOINT, "checkpoint-unused-1.pt"), (LOSSES, "losses-unused-1.csv")):
        assert (folder / unused).read_text() == f"hours of work: {name}"


@pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, 2), (signal.SIGTERM, ITERATIONS)])
def test_a_run_that_is_stopped_finishes_its_iteration_and_continues_there(
    number: signal.Signals,
    at: int,
    whole: tuple[Path, Result],
    data: Path,
    backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    protocol = scheduled("mini_voc_seg_fcn")
    write = LossLog.write

    def signalled(log: LossLog, iteration: int, *values: Any) -> None:
        if iteration == at:
            os.kill(os.getpid(), number)
        write(log, iteration, *values)

    def run() -> Result:
        return run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / "stopped")

    # whoever started the tests may have had the signal ignored
    before = signal.signal(number, signal.default_int_handler)
    try:
        with monkeypatch.context() as context, pytest.raises(Interrupted) as stopped:
            context.setattr(LossLog, "write", signalled)
            run()
        assert signal.getsignal(number) is signal.default_int_handler, "after training it ends the process as ever"
    finally:
        signal.signal(number, before)
    file = tmp_path / "stopped" / CHECKPOINT
    said = f"stopped after iteration {at} of {ITERATIONS}, which is saved in {file}: repeat the command to continue"
    assert (str(stopped.value), stopped.value.number) == (said, number)
    continued = run()
    assert f"was written after iteration {at}" in capsys.readouterr().out
    assert same(continued, whole[1])
    for name in (WEIGHTS, "losses.csv", "shares.npz"):
        assert (tmp_path / "stopped" / name).read_bytes() == (whole[0] / name).read_bytes()
