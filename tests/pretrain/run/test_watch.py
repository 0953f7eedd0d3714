"""Watching runs: only complete lines count, a resumed log is read again, and the end of a run ends the watching."""

from __future__ import annotations

import fcntl
import io
import json
import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from toy import toy_recipe, write_images

from pretrain.data.batches import open_images
from pretrain.errors import PretrainError
from pretrain.run import watch as watching
from pretrain.run.folder import in_training
from pretrain.run.history import LogReader, WatchedRun, duration, newest, significant
from pretrain.run.train import train
from pretrain.run.watch import watch


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps with a line each second one."""
    root = tmp_path_factory.mktemp("watched")
    images = write_images(root / "images")
    return train(toy_recipe(), open_images(images), root / "toy-seed0", device="cpu", workers=0, log_every=2)


def unfinished(finished: Path, folder: Path, lines: int, tail: str = "") -> Path:
    """A copy of the run that got as far as `lines` log lines and the beginning of another."""
    folder.mkdir()
    (folder / "run.json").write_bytes((finished / "run.json").read_bytes())
    (folder / ".lock").touch()
    complete = (finished / "log.jsonl").read_text().splitlines(keepends=True)[:lines]
    (folder / "log.jsonl").write_text("".join(complete) + tail)
    return folder


def line(step: int, **scalars: float | None) -> str:
    beside = {"epoch": 0.5, "lr": 0.1, "images_per_second": 9.0, "data_wait": 0.5, "peak_memory_mib": 7.0}
    return json.dumps({"step": step, **beside, "scalars": scalars, "seconds": 1.0, "eta_seconds": 30.0}) + "\n"


def printed(runs: list[Path], **options: Any) -> tuple[bool, str]:
    stream = io.StringIO()
    done = watch(runs, console=Console(file=stream, width=100), **options)
    return done, stream.getvalue()


def test_the_newest_line_of_each_run(finished: Path, tmp_path: Path) -> None:
    half = unfinished(finished, tmp_path / "half", 3, tail='{"step": 8, "epo')
    empty = unfinished(finished, tmp_path / "new", 0)
    (empty / "log.jsonl").unlink()
    done, text = printed([finished, half, empty], once=True)
    assert not done
    rows = {row.split("│")[0].strip(): [cell.strip() for cell in row.split("│")[1:]] for row in text.splitlines()}
    logged = [json.loads(row) for row in (finished / "log.jsonl").read_text().splitlines()]
    assert rows["state"] == ["finished", "stopped", "stopped"]
    assert rows["step"] == ["12/12", "6/12", "0/12"]
    assert rows["loss"] == [significant(logged[k]["scalars"]["loss"]) for k in (-1, 2)] + [""]
    assert {"epoch", "spread", "rank", "lr", "images/s", "data wait", "memory"} <= set(rows)
    assert printed([finished], once=True)[0]


def test_many_runs_go_below_each_other(finished: Path, tmp_path: Path) -> None:
    runs = [unfinished(finished, tmp_path / f"copy[{k}]", 2) for k in range(7)]
    text = printed(runs, once=True)[1]
    assert all(f"copy[{k}]" in text for k in range(7))
    assert max(len(row) for row in text.splitlines()) <= 100


def test_a_reader_takes_complete_lines_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    reader = LogReader(path)
    assert reader.read() == (False, [])
    whole = line(10, loss=1.0) + line(20, loss=2.0)
    read: list[bytes] = []
    for end in range(len(whole) + 1):  # as it grows byte by byte
        path.write_text(whole[:end])
        replaced, lines = reader.read()
        assert not replaced
        read += lines
    assert [reader.parse(row)["step"] for row in read] == [10, 20]
    assert reader.read() == (False, [])


def test_a_log_that_a_resumed_run_rewrote_is_read_again(finished: Path, tmp_path: Path) -> None:
    run = unfinished(finished, tmp_path / "run", 0)
    log = run / "log.jsonl"
    log.write_text(line(2, loss=1.0) + line(4, loss=2.0))
    watched = WatchedRun(run, keep_history=True)
    assert watched.update() and not watched.update()
    new = run / "new"
    new.write_text(line(2, loss=1.0) + line(3, loss=None, extra=5.0) + line(4, loss=7.0) + line(6, loss=8.0))
    new.replace(log)
    assert watched.update()
    assert watched.history is not None
    assert list(watched.history.steps) == [2, 3, 4, 6]
    losses, extra = watched.history.columns["loss"], watched.history.columns["extra"]
    assert [*losses[:1], *losses[2:]] == [1.0, 7.0, 8.0] and losses[1] != losses[1]
    assert [value == value for value in extra] == [False, True, False, False]
    assert list(watched.history.columns["images_per_second"]) == [9.0] * 4


@pytest.mark.parametrize("damaged", ["no json\n", "[1, 2]\n", '{"step": 3}\n', '{"step": 3, "scalars": 4}\n'])
def test_a_damaged_line_is_named(finished: Path, tmp_path: Path, damaged: str) -> None:
    run = unfinished(finished, tmp_path / "run", 1)
    with (run / "log.jsonl").open("a") as log:
        log.write(damaged)
    with pytest.raises(PretrainError, match=r"log\.jsonl is damaged"):
        printed([run], once=True)
    with pytest.raises(PretrainError, match="is not a pretraining run"):
        printed([tmp_path], once=True)


def hold(folder: Path, taken: Any, free: Any) -> None:
    with (folder / ".lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        taken.set()
        free.wait(60)


def test_watching_ends_when_the_run_does(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds the run while lines come in; watching leaves its lock alone."""
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(watching, "PLAIN_SECONDS", 0.0)
    run = unfinished(finished, tmp_path / "run", 1)
    assert not in_training(run)
    context = multiprocessing.get_context("fork")
    taken, free = context.Event(), context.Event()
    trainer = context.Process(target=hold, args=(run, taken, free))
    trainer.start()
    assert taken.wait(60) and in_training(run)
    console = Console(file=io.StringIO(), width=100)
    results: list[bool] = []
    watcher = threading.Thread(target=lambda: results.append(watch([run], page=tmp_path / "p.html", console=console)))
    watcher.start()
    lines = (finished / "log.jsonl").read_text().splitlines(keepends=True)
    with (run / "log.jsonl").open("a") as log:
        log.write(lines[1])
    watcher.join(1)
    assert watcher.is_alive() and in_training(run)
    (run / "finished.json").write_text("{}")
    watcher.join(30)
    assert not watcher.is_alive() and results == [True]
    free.set()
    trainer.join(60)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "run  step 4/12" in text and text.rstrip().endswith("finished")
    assert (tmp_path / "p.html").read_text().count("<figure") >= 7


def test_a_killed_run_ends_the_watching_too(finished: Path, tmp_path: Path) -> None:
    run = unfinished(finished, tmp_path / "run", 2)
    done, text = printed([run])
    assert not done and "stopped" in text


def test_a_terminal_shows_the_table(finished: Path) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    assert watch([finished], console=console)
    assert "12/12" in console.file.getvalue()  # type: ignore[attr-defined]


def test_text(finished: Path) -> None:
    assert [duration(s) for s in (0, 59.6, 100, 3599.9, 7500)] == ["0 s", "60 s", "2 min", "1 h 00 min", "2 h 05 min"]
    assert [significant(v) for v in (None, 0.0, 12345.678, 1.23456e-5)] == ["-", "0", "1.235e+04", "1.235e-05"]
    run = WatchedRun(finished, keep_history=False)
    run.update()
    assert newest(run)["state"] == "finished" and "time left" not in newest(run)
