"""What a run shows and logs while it trains."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import toy_recipe, write_images

from pretrain.data.batches import ImageSource, open_images
from pretrain.errors import PretrainError
from pretrain.run import log as runlog
from pretrain.run.log import Interval, RunLog
from pretrain.run.processes import Process
from pretrain.run.train import train

CPU = Process(torch.device("cpu"))
LINE = {
    "step": 4,
    "epoch": 1.0,
    "lr": 0.1,
    "scalars": {"loss": 2.5},
    "images_per_second": 10.0,
    "data_wait": 0.25,
    "eta_seconds": 3.0,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    return open_images(write_images(tmp_path_factory.mktemp("data") / "images"))


def open_log(path: Path, *, first_step: int = 0) -> RunLog:
    return RunLog(path, CPU, title="toy", first_step=first_step, planned_steps=12, tensorboard=False)


def test_an_interval_averages_and_starts_anew() -> None:
    interval = Interval(CPU, batch_size=8, step=0)
    for value in (1.0, 2.0, 6.0):
        interval.add({"loss": torch.tensor(value), "std": torch.tensor(float("inf"))}, waited=0.0)
    assert interval.close()["scalars"] == {"loss": 3.0, "std": None}
    interval.add({"loss": torch.tensor(5, dtype=torch.bfloat16, requires_grad=True)}, waited=0.0)
    line = interval.close(rank=torch.tensor(2.5))
    assert line["scalars"] == {"loss": 5.0, "rank": 2.5} and line["data_wait"] == 0


def test_the_first_step_without_a_finite_loss_is_named() -> None:
    interval = Interval(CPU, batch_size=8, step=20)
    for value in (1.0, 2.0, float("inf"), float("nan")):
        interval.add({"other": torch.tensor(float("nan")), "loss": torch.tensor(value)}, waited=0.0)
    with pytest.raises(PretrainError, match="loss of step 23 is inf"):
        interval.close()


def test_the_first_step_without_a_finite_gradient_is_named() -> None:
    interval = Interval(CPU, batch_size=8, step=20)
    for loss, norm in ((1.0, 2.0), (1.0, float("inf")), (float("nan"), float("nan"))):
        interval.add({"loss": torch.tensor(loss), "grad_norm": torch.tensor(norm)}, waited=0.0)
    with pytest.raises(PretrainError, match="norm of the gradient of step 22 is inf"):
        interval.close()


def test_a_log_is_continued_after_its_step(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with open_log(path) as log:
        for step in (4, 8, 12):
            log.write(LINE | {"step": step})
    with open_log(path, first_step=8) as log:
        log.write(LINE | {"step": 10})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [4, 8, 10]


def test_other_ranks_stay_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    process = Process(torch.device("cpu"), rank=1, world=2)
    with RunLog(tmp_path / "l", process, title="toy", first_step=0, planned_steps=1, tensorboard=True) as log:
        log.write(LINE)
    assert not list(tmp_path.iterdir()) and capfd.readouterr() == ("", "")


def test_plain_lines_are_few(source: ImageSource, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(toy_recipe(), source, tmp_path / "run", workers=0, log_every=1)
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert not out and len(lines) == 2, "the first and the last of twelve within ten seconds"
    assert lines[0].startswith("toy step 1/12  epoch 0.2  loss ") and "images/s" in lines[0]
    assert lines[1].startswith("toy step 12/12") and lines[1].endswith("0 s left")


def test_a_terminal_gets_a_bar(
    source: ImageSource, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    train(toy_recipe(), source, tmp_path / "run", workers=0, log_every=1)
    err = capfd.readouterr().err
    assert "12/12" in err and "━" in err and "epoch 3.0" in err


def test_tensorboard_gets_every_line(source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Writer:
        scalars: list[tuple[str, float, int]] = []
        closed = False

        def __init__(self, folder: Path, first_step: int) -> None:
            assert (folder, first_step) == (tmp_path / "run" / "tensorboard", 0)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.scalars.append((name, value, step))

        def close(self) -> None:
            Writer.closed = True

    monkeypatch.setattr(runlog, "require_tensorboard", lambda: None)
    monkeypatch.setattr("pretrain.run.train.require_tensorboard", lambda: None)
    monkeypatch.setattr(runlog, "_tensorboard_writer", Writer)
    run = train(toy_recipe(), source, tmp_path / "run", workers=0, log_every=4, tensorboard=True)
    lines: list[dict[str, Any]] = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [(value, step) for name, value, step in Writer.scalars if name == "loss"]
    assert losses == [(line["scalars"]["loss"], line["step"]) for line in lines]
    of_loop = {"grad_norm", "rank", "lr", "images_per_second", "data_wait"}
    assert {name for name, _, _ in Writer.scalars} == {"loss", "spread"} | of_loop
    assert Writer.closed


class FullDisk:
    """A file that keeps what it is given and cannot write it, neither when told to nor at the end."""

    name = "log.jsonl"

    def write(self, text: str) -> None:
        """Take it."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        self.flush()


def test_a_full_disk_is_said_and_the_screen_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the file fails again: neither error hides the words, nor keeps the rest open."""
    closed: list[str] = []
    monkeypatch.setattr(runlog, "_open", lambda path: FullDisk())
    monkeypatch.setattr(runlog._Lines, "close", lambda lines: closed.append("screen"))
    words = "cannot write log.jsonl: No space left on device. The checkpoint is kept: .* continue with --resume"
    with pytest.raises(PretrainError, match=words), open_log(tmp_path / "log.jsonl") as log:
        log.write(LINE)
    with pytest.raises(PretrainError, match=words), open_log(tmp_path / "log.jsonl"):
        """Nothing is written before the end."""
    assert closed == ["screen"] * 2


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match=r"cannot write .*log.jsonl: No such file or directory"):
        open_log(tmp_path / "missing" / "log.jsonl")
