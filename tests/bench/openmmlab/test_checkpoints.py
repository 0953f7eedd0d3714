"""Checkpoints of a run and its file of losses, alone: whose they are, and what a full disk or a kill leaves."""

import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.openmmlab.checkpoints import (
    WHAT,
    Checkpoints,
    random_states,
    restore_random_states,
    run_identity,
)
from bench.openmmlab.loss_log import LOSSES, LossLog, has_lines
from leaderboard.base.errors import FileError
from leaderboard.records import DatasetReference, Environment

IDENTITY = {"protocol": "p", "seed": "0", "torch": "2.15"}


def state(iteration: int = 2) -> dict[str, Any]:
    return {"iteration": iteration, "model": {"weight": torch.arange(3.0)}, "random": random_states()}


def lines(folder: Path, count: int) -> Path:
    log = LossLog(folder / LOSSES)
    for iteration in range(1, count + 1):
        log.write(iteration, 0.1 / iteration, {"loss": iteration / 3})
    log.close()
    return folder / LOSSES


def test_what_was_written_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(tmp_path, 2)
    kept = Checkpoints(tmp_path, IDENTITY)
    assert kept.read() is None and capsys.readouterr().out == ""
    assert kept.write(state())
    found = kept.read()
    assert found is not None and torch.equal(found["model"]["weight"], torch.arange(3.0))
    assert "was written after iteration 2" in capsys.readouterr().out


@pytest.mark.parametrize("key", IDENTITY)
def test_a_checkpoint_of_another_run_is_refused(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(tmp_path, 2)
    Checkpoints(tmp_path, IDENTITY).write(state())
    assert Checkpoints(tmp_path, IDENTITY | {key: "other"}).read() is None
    said = capsys.readouterr().out
    assert f"belongs to another run ({key} {IDENTITY[key]} -> other): the run starts again from the beginning" in said


@pytest.mark.parametrize("key", [*WHAT, "device", "torch", "mmcv"])
def test_on_a_gpu_a_run_goes_on_where_hardware_and_versions_differ(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path, 2)
    Checkpoints(tmp_path, IDENTITY | {"device": "NVIDIA A100-SXM4-40GB"}, exact=False).write(state())
    now = IDENTITY | {"device": "NVIDIA A100-SXM4-40GB", key: "other"}  # some of the keys are new
    found, said = Checkpoints(tmp_path, now, exact=False).read(), capsys.readouterr().out
    if key in WHAT:
        assert found is None and f"belongs to another run ({key} " in said
    else:
        assert found is not None and found["iteration"] == 2
        assert "after iteration 2, elsewhere or with other versions (" + key in said and "-> other)" in said


def test_a_run_goes_on_with_as_many_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(tmp_path, 2)
    kept = Checkpoints(tmp_path, IDENTITY, exact=False, devices=2)
    kept.write(state() | {"random_of_others": [random_states()]})
    assert kept.read() is not None
    assert Checkpoints(tmp_path, IDENTITY, exact=False).read() is None
    assert "on another number of devices (2 -> 1): the run starts again" in capsys.readouterr().out


def test_what_cannot_be_continued_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Checkpoints(tmp_path, IDENTITY)
    kept.set_aside()
    assert capsys.readouterr().out == ""
    for number in (1, 2):
        losses, checkpoint = lines(tmp_path, number).read_bytes(), b"checkpoint %d" % number
        kept.file.write_bytes(checkpoint)
        kept.set_aside()
        found = tmp_path / f"checkpoint-unused-{number}.pt", tmp_path / f"losses-unused-{number}.csv"
        assert [file.read_bytes() for file in found] == [checkpoint, losses]
        assert f"kept: {found[0].name} and {found[1].name}, in {tmp_path}; remove" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 4


def test_what_cannot_be_read_or_lacks_its_losses_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Checkpoints(tmp_path, IDENTITY)
    kept.write(state(3))
    lines(tmp_path, 2)
    assert kept.read() is None
    said = capsys.readouterr().out
    assert "is at iteration 3, and losses.csv ends before: the run starts again from the beginning" in said
    whole = kept.file.read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2]):
        kept.file.write_bytes(content)
        assert kept.read() is None
        assert "is damaged" in capsys.readouterr().out
    torch.save({"format": 0, "identity": IDENTITY, "state": state()}, kept.file)
    assert kept.read() is None
    assert "another version of densebench" in capsys.readouterr().out


class Evil:
    """Unpickling it would run code."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('unpickled')",)


def test_nothing_is_unpickled_but_plain_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Checkpoints(tmp_path, IDENTITY)
    torch.save({"format": 1, "identity": IDENTITY, "state": Evil()}, kept.file)
    assert kept.read() is None
    assert "is damaged" in capsys.readouterr().out


def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path, 2)
    kept = Checkpoints(tmp_path, IDENTITY)
    kept.write(state(1))
    before = kept.file.read_bytes()

    def full(value: object, file: Any) -> None:
        file.write(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert not kept.write(state(2))
    assert "no checkpoint after iteration 2" in (said := capsys.readouterr().out)
    assert "No space left" in said and "Training goes on" in said
    assert kept.file.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.pt", LOSSES]


def test_threads_count_on_a_cpu_only() -> None:
    card: Any = type("Card", (), {"sha256": "c"})
    data = DatasetReference(name="voc2012_seg", fingerprint="0" * 64, train_images=1, val_images=1, classes=None)

    def identity(threads: int, device: str) -> dict[str, str]:
        environment = Environment(
            device="X", precision="fp32", threads=threads, python="3", packages={"torch": "2"}, code_commit=None
        )
        return run_identity("p", card, data, 0, environment, device)

    assert identity(1, "cpu") != identity(2, "cpu")
    assert identity(1, "cuda") == identity(2, "cuda")
    assert identity(1, "cpu")["torch"] == "2"


def test_all_generators_are_restored_from_a_file(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float, float, float]:
        # a normal number of each: numpy and Python keep the second of a pair
        return torch.rand(()).item(), np.random.rand(), np.random.randn(), random.random(), random.gauss()

    draw()
    torch.save(random_states(), tmp_path / "states")
    first = draw(), draw()
    restore_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert (draw(), draw()) == first


def test_losses_are_in_the_file_as_they_come(tmp_path: Path) -> None:
    log = LossLog(tmp_path / LOSSES)
    log.write(1, 0.02, {"loss": 1.23456789, "acc": 50.0})
    assert (tmp_path / LOSSES).read_text() == "iteration,learning_rate,loss,acc\n1,0.02,1.23457,50\n"
    log.write(2, 0.01, {"loss": float("nan"), "acc": 1.0})
    log.sync()
    log.close()
    assert (tmp_path / LOSSES).read_text().splitlines()[2] == "2,0.01,nan,1"


def test_a_continued_file_is_the_file_of_one_run(tmp_path: Path) -> None:
    whole = lines(tmp_path, 5).read_bytes()
    for left, done in ((whole, 3), (whole[:-4], 4), (whole, 0), (b"iteration,learning_rate,loss\n1,0.", 0)):
        (tmp_path / LOSSES).write_bytes(left)
        assert has_lines(tmp_path / LOSSES, done)
        log = LossLog(tmp_path / LOSSES, done)
        for iteration in range(done + 1, 6):
            log.write(iteration, 0.1 / iteration, {"loss": iteration / 3})
        log.close()
        assert (tmp_path / LOSSES).read_bytes() == whole
    assert not has_lines(tmp_path / LOSSES, 6)
    assert not has_lines(tmp_path / "missing", 0)


def test_a_full_disk_delays_losses_and_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lines(tmp_path, 3).read_bytes()
    log = LossLog(tmp_path / LOSSES)
    log.write(1, 0.1, {"loss": 1 / 3})
    room, real = [5], os.write  # bytes that still fit

    def write(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr("os.write", write)
    log.write(2, 0.05, {"loss": 2 / 3})
    with pytest.raises(FileError, match="free space"):
        log.sync()
    room[0] = 10**6
    log.write(3, 0.1 / 3, {"loss": 1.0})
    log.sync()
    log.close()
    assert (tmp_path / LOSSES).read_bytes() == whole


def test_tensorboard_gets_every_loss_and_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Any] = []

    class Writer:
        def __init__(self, folder: Path, done: int) -> None:
            assert (folder, done) == (tmp_path / "tensorboard", 0)

        def add_scalar(self, *entry: Any) -> None:
            got.append(entry)

        def close(self) -> None:
            got.append("closed")

    monkeypatch.setattr("bench.openmmlab.loss_log._tensorboard_writer", Writer)
    log = LossLog(tmp_path / LOSSES, tensorboard=True)
    log.write(1, 0.5, {"loss": 2.0})
    log.close()
    assert got == [("lr", 0.5, 1), ("loss", 2.0, 1), "closed"]
    assert json.dumps(got)
