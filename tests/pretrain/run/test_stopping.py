"""Ctrl-C and SIGTERM: the step ends, its state is saved, and the continued run ends as one that was not stopped."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import gloo
import pytest
import torch
from toy import Toy, toy_recipe, write_images

from leaderboard.base.errors import Interrupted
from pretrain.data.batches import open_images
from pretrain.run.folder import read_checkpoint, read_record
from pretrain.run.stopping import StopRequest, stop_requests
from pretrain.run.train import train


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing stops."""
    return train(toy_recipe(), open_images(images), tmp_path_factory.mktemp("runs") / "whole", workers=0)


def saved(run: Path) -> dict[str, Any]:
    return read_checkpoint(run / "checkpoint.pt", read_record(run))


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def number(request: pytest.FixtureRequest) -> int:
    """A signal whose own handler would fail the test."""
    before = signal.signal(request.param, lambda number, frame: pytest.fail("it was not noted"))
    request.addfinalizer(lambda: signal.signal(request.param, before))
    return int(request.param)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 1)], indirect=["number"])
def test_a_real_signal_in_a_step_saves_it(
    images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, workers: int
) -> None:
    def signalled(toy: Toy, step: int, total: int) -> None:
        if step == 5:
            signal.raise_signal(number)
        after(toy, step, total)

    after, run = Toy.after_step, tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Toy, "after_step", signalled)
        with pytest.raises(Interrupted, match=r"stopped after step 5 of 12, .*run: continue with --resume") as stopped:
            train(toy_recipe(), open_images(images), run, workers=workers)
    assert stopped.value.exit_code == 128 + number
    assert saved(run)["step"] == 5
    train(toy_recipe(), open_images(images), run, workers=workers, resume=True)
    ends = [saved(folder) for folder in (run, whole)]
    for parts in zip(*((end["method"], end["optimizer"]["state"]) for end in ends), strict=True):
        torch.testing.assert_close(*parts, rtol=0, atol=0)


@pytest.mark.parametrize("number", [signal.SIGINT], indirect=True)
def test_a_signal_in_the_last_step_stops_nothing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    after = Toy.after_step
    monkeypatch.setattr(
        Toy, "after_step", lambda toy, step, total: (after(toy, step, total), signal.raise_signal(number))[0]
    )
    train(toy_recipe(epochs=1, batch_size=18), open_images(images), tmp_path / "run", workers=0)
    assert (tmp_path / "run" / "finished.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM], indirect=True)
def test_loading_processes_that_the_signal_ends_stop_the_run_at_its_last_checkpoint(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def dies(toy: Toy, step: int, total: int) -> None:
        after(toy, step, total)
        if step == 5:
            signal.raise_signal(number)
            raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Terminated.")

    after = Toy.after_step
    monkeypatch.setattr(Toy, "after_step", dies)
    with pytest.raises(Interrupted, match=r"between two checkpoints; the last one in .* is kept"):
        train(toy_recipe(), open_images(images), tmp_path / "run", workers=0, log_every=1, checkpoint_seconds=0)
    assert saved(tmp_path / "run")["step"] == 4


def test_an_error_of_loading_without_a_signal_stays_one() -> None:
    with pytest.raises(RuntimeError, match="DataLoader worker"), StopRequest().while_loading(Path("run")):
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed.")


def test_a_second_ctrl_c_does_not_wait(number: int) -> None:
    with stop_requests() as stop:
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
        assert stop and stop.number == number
        with pytest.raises(KeyboardInterrupt):
            stop.take(signal.SIGINT, None)


def test_signals_that_are_ignored_stay_so_and_handlers_come_back(number: int) -> None:
    own = signal.getsignal(number)
    signal.signal(number, signal.SIG_IGN)
    with stop_requests() as stop:
        signal.raise_signal(number)
        assert not stop
    signal.signal(number, own)
    with stop_requests():
        assert signal.getsignal(number) != own
    assert signal.getsignal(number) == own


def test_another_thread_leaves_signals_alone(number: int) -> None:
    found = []

    def look() -> None:
        with stop_requests():
            found.append(signal.getsignal(number))

    thread = threading.Thread(target=look)
    before = signal.getsignal(number)
    thread.start()
    thread.join()
    assert found == [before]


def train_until_told(rank: int, world: int, folder: Path) -> None:
    """Of two processes one gets the signal, in the middle of an interval; both end after the same step."""

    def signalled(toy: Toy, step: int, total: int) -> None:
        if (step, rank) == (3, 1):
            signal.raise_signal(signal.SIGTERM)
        after(toy, step, total)

    after = Toy.after_step
    Toy.after_step = signalled  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="stopped after step 4 of 12"):
        train(toy_recipe(), open_images(folder / "images"), folder / "run", workers=0, log_every=2)
    assert saved(folder / "run")["step"] == 4  # on both: the first has saved it before either ends


def test_several_processes_stop_after_the_same_step(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    gloo.run(train_until_told, 2, tmp_path)
