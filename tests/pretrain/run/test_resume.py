"""A run that is killed at any moment and resumed ends as one that was not, bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import Toy, processes_context, toy_recipe, write_images

from leaderboard.base import files
from pretrain.data.batches import open_images
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.recipes import find_recipe, override
from pretrain.run import folder as runs
from pretrain.run.train import train

STEPS = 12  # 18 images in batches of 4, 3 epochs


class InterruptionError(Exception):
    pass


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return train(toy_recipe(), open_images(images), out, workers=0, log_every=1)


def assert_same_end(run: Path, whole: Path) -> None:
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (run, whole)]
    for part in ("method", "optimizer"):
        first, second = (flat(state[part]) for state in states)
        assert first.keys() == second.keys()
        for name, value in first.items():
            same = torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
            assert same, name
    assert states[0]["step"] == states[1]["step"]
    logs = [[json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] for folder in (run, whole)]
    for key in ("step", "lr", "scalars"):
        assert [line[key] for line in logs[0]] == [line[key] for line in logs[1]]
    summaries = [json.loads((folder / "finished.json").read_text()) for folder in (run, whole)]
    assert summaries[0]["executed_steps"] == summaries[1]["executed_steps"] == states[0]["step"]


def flat(part: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(part, dict | list):
        items = part.items() if isinstance(part, dict) else enumerate(part)
        return {key: value for name, inner in items for key, value in flat(inner, f"{prefix}{name}.").items()}
    return {} if part is None else {prefix: part}


@pytest.mark.parametrize("saved", [True, False], ids=["saved at every step", "never saved"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_interrupted_at_every_step(
    images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, saved: bool
) -> None:
    settings: dict[str, Any] = {"workers": 0, "log_every": 1, "checkpoint_seconds": 0 if saved else 1e9}

    def interrupt(toy: Toy, now: int, total: int) -> None:
        if now == step:
            raise InterruptionError
        after(toy, now, total)

    after = Toy.after_step
    with monkeypatch.context() as patch:
        patch.setattr(Toy, "after_step", interrupt)
        with pytest.raises(InterruptionError):
            train(toy_recipe(), open_images(images), tmp_path / "run", **settings)
    with pytest.raises(PretrainError, match="unfinished run: add --resume"):
        train(toy_recipe(), open_images(images), tmp_path / "run")
    torch.manual_seed(step)  # resuming must not lean on the state of the process
    train(toy_recipe(), open_images(images), tmp_path / "run", resume=True, **settings)
    assert_same_end(tmp_path / "run", whole)


@pytest.mark.parametrize("name", [pytest.param("moco-v2-mini", marks=pytest.mark.slow), "densecl-mini"])
def test_real_methods_resume_exactly(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Queues, momentum networks, shuffles and split batch norm in bf16, interrupted in the second epoch."""
    small = ["epochs=2", "batch_size=8", "method.view_size=32", "method.queue=32", "method.bn_splits=2"]
    recipe = override(find_recipe(all_recipes(), name), [*small, "schedule.warmup_epochs=1"])
    settings: dict[str, Any] = {"workers": 0, "log_every": 1, "checkpoint_seconds": 0}
    whole = train(recipe, open_images(images), tmp_path / "whole", **settings)
    method = type(recipe.method.build())
    after = method.after_step

    def interrupt(self: Any, step: int, total: int) -> None:
        if step == 4:
            raise InterruptionError
        after(self, step, total)

    with monkeypatch.context() as patch:
        patch.setattr(method, "after_step", interrupt)
        with pytest.raises(InterruptionError):
            train(recipe, open_images(images), tmp_path / "run", **settings)
    assert_same_end(train(recipe, open_images(images), tmp_path / "run", resume=True, **settings), whole)


def train_and_die(images: Path, out: Path, workers: int, moment: str, count: int, epochs: int = 3) -> None:
    """Trains with `--resume` and kills itself with SIGKILL at the `count`-th occurrence of `moment`."""
    multiprocessing.set_start_method("fork", force=True)
    left = [count]

    def dies(function: Any, before: Any = None) -> Any:
        def dying(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                if before:
                    before(*args)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return dying

    if moment == "after a step":
        Toy.after_step = dies(Toy.after_step)  # type: ignore[method-assign]
    elif moment == "half a checkpoint":
        runs.torch.save = dies(torch.save, lambda state, file: (file.write(b"PK" * 1000), file.flush()))  # type: ignore[attr-defined]
    elif moment == "before a rename":
        files.os.fsync = dies(os.fsync)  # type: ignore[attr-defined]
    elif moment == "slow":
        after = Toy.after_step

        def slow(toy: Toy, step: int, total: int) -> None:
            time.sleep(0.01)
            after(toy, step, total)

        Toy.after_step = slow  # type: ignore[method-assign]
    train(
        toy_recipe(epochs=epochs),
        open_images(images),
        out,
        resume=True,
        workers=workers,
        log_every=1,
        checkpoint_seconds=0,
    )


def run_in_process(*args: Any) -> int | None:
    process = processes_context().Process(target=train_and_die, args=args)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.mark.parametrize(
    ("moment", "count", "workers"),
    [
        ("after a step", 1, 0),
        ("after a step", 4, 2),
        ("after a step", 7, 2),
        ("half a checkpoint", 1, 0),
        ("half a checkpoint", 6, 2),
        ("half a checkpoint", STEPS, 0),
        *[("before a rename", count, 0) for count in (1, 2, 3, 4, 9, 10, 2 * STEPS + 1, 2 * STEPS + 2, 2 * STEPS + 3)],
    ],
)
def test_killed_at_a_chosen_moment(
    images: Path, whole: Path, tmp_path: Path, moment: str, count: int, workers: int
) -> None:
    assert run_in_process(images, tmp_path / "run", workers, moment, count) == -signal.SIGKILL
    assert not (tmp_path / "run" / "finished.json").exists()
    train(toy_recipe(), open_images(images), tmp_path / "run", resume=True, workers=0, log_every=1)
    assert_same_end(tmp_path / "run", whole)


@pytest.mark.slow
def test_killed_again_and_again(images: Path, tmp_path: Path) -> None:
    """SIGKILL from outside at random moments, with two loader processes, until the run is through."""
    run, draw, kills = tmp_path / "run", random.Random(0), 0
    while not (run / "finished.json").exists():
        reached = len((run / "log.jsonl").read_text().splitlines()) if (run / "log.jsonl").exists() else 0
        process = processes_context().Process(target=train_and_die, args=(images, run, 2, "slow", 0, 6))
        process.start()
        deadline = time.monotonic() + 60
        while process.is_alive() and time.monotonic() < deadline:
            if (run / "log.jsonl").exists() and len((run / "log.jsonl").read_text().splitlines()) > reached:
                time.sleep(draw.uniform(0, 0.2))
                process.kill()
                break
            time.sleep(0.005)
        process.join(60)
        kills += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
    assert kills >= 1
    whole = train(toy_recipe(epochs=6), open_images(images), tmp_path / "whole", workers=0, log_every=1)
    assert_same_end(run, whole)


def test_a_torn_log_line_is_dropped(images: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_in_process(images, run, 0, "after a step", 6) == -signal.SIGKILL
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "sca')
    train(toy_recipe(), open_images(images), run, resume=True, workers=0, log_every=1)
    assert_same_end(run, whole)


def test_a_second_process_in_the_folder_is_refused(images: Path, tmp_path: Path) -> None:
    process = processes_context().Process(target=train_and_die, args=(images, tmp_path / "run", 0, "slow", 0, 200))
    process.start()
    try:
        while not (tmp_path / "run" / "checkpoint.pt").exists():
            time.sleep(0.01)
        with pytest.raises(PretrainError, match="another process is training"):
            train(toy_recipe(epochs=200), open_images(images), tmp_path / "run", resume=True)
    finally:
        process.kill()
        process.join()


def test_a_damaged_checkpoint_is_named(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_in_process(images, run, 0, "after a step", 6) == -signal.SIGKILL
    whole = (run / "checkpoint.pt").read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"text"):
        (run / "checkpoint.pt").write_bytes(damaged)
        with pytest.raises(PretrainError, match=r"checkpoint.pt is damaged"):
            train(toy_recipe(), open_images(images), run, resume=True)


def test_nothing_in_a_checkpoint_is_executed(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_in_process(images, run, 0, "after a step", 6) == -signal.SIGKILL

    class Malicious:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"format": 1, "method": Malicious()}, run / "checkpoint.pt")
    with pytest.raises(PretrainError, match="damaged"):
        train(toy_recipe(), open_images(images), run, resume=True)
    assert not (tmp_path / "executed").exists()


def test_the_checkpoint_of_another_run_is_refused(images: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert run_in_process(images, run, 0, "after a step", 6) == -signal.SIGKILL
    train(toy_recipe(), open_images(images), other, seed=1, workers=0)
    (run / "checkpoint.pt").write_bytes((other / "checkpoint.pt").read_bytes())
    with pytest.raises(PretrainError, match="belongs to another run"):
        train(toy_recipe(), open_images(images), run, resume=True)
