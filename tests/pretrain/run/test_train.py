"""The training loop against a plain loop, and what it does when something is wrong."""

from __future__ import annotations

import json
import math
import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import Toy, ToyConfig, processes_context, toy_recipe, write_images

from leaderboard.base.errors import FileError
from pretrain.data.augment import finish_views
from pretrain.data.batches import ImageSource, Loading, crop_batches, open_images
from pretrain.errors import PretrainError
from pretrain.recipes import Recipe, SGDConfig
from pretrain.run import train as train_module
from pretrain.run.acceleration import Acceleration
from pretrain.run.folder import read_record
from pretrain.run.train import train

STEPS = 12  # 18 images in batches of 4, 3 epochs


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    return open_images(write_images(tmp_path_factory.mktemp("data") / "images"))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoint.pt", weights_only=True)["method"]


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_it_is_the_plain_loop(source: ImageSource, tmp_path: Path) -> None:
    """A loop of a few lines, without any of the machinery, ends with the same weights and sees the same losses."""
    recipe = toy_recipe(method=ToyConfig(dropout=0.0))
    run = train(recipe, source, tmp_path / "run", seed=3, workers=0, log_every=1)

    torch.manual_seed(3)
    toy = Toy(recipe.method).to(memory_format=torch.channels_last)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([p for p in toy.parameters() if p.requires_grad], lr=0, momentum=0.9, weight_decay=1e-4)
    losses, rates, norms = [], [], []
    for epoch in range(3):
        for crops in crop_batches(source, toy.plan, Loading(4, seed=3, workers=0), epoch=epoch):
            rates.append(0.05 * 0.5 * (1 + math.cos(math.pi * epoch / 3)))
            optimizer.param_groups[0]["lr"] = rates[-1]
            loss = toy([finish_views(crop, spec, toy.plan) for crop, spec in zip(crops, toy.plan.specs, strict=True)])[
                "loss"
            ]
            optimizer.zero_grad()
            loss.backward()
            norms.append(torch.cat([p.grad.flatten() for p in toy.parameters()]).norm().item())  # type: ignore[union-attr]
            optimizer.step()
            toy.after_step(len(rates), STEPS)
            losses.append(loss.item())

    torch.testing.assert_close(weights(run), dict(toy.state_dict()))
    assert [line["lr"] for line in log(run)] == pytest.approx(rates)
    assert [line["scalars"]["loss"] for line in log(run)] == pytest.approx(losses, rel=1e-5)
    assert [line["scalars"]["grad_norm"] for line in log(run)] == pytest.approx(norms, rel=1e-4)
    assert json.loads((run / "finished.json").read_text())["executed_steps"] == len(losses) == STEPS


def test_the_logged_gradient_is_that_before_clipping(source: ImageSource, tmp_path: Path) -> None:
    first = []
    for clip_norm in (None, 1e-3):
        recipe = toy_recipe(optimizer=SGDConfig(lr=0.05, clip_norm=clip_norm), epochs=1)
        run = train(recipe, source, tmp_path / str(clip_norm), workers=0, log_every=1)
        first.append(log(run)[0]["scalars"]["grad_norm"])
    assert first[0] == first[1] > 1e-3


def test_the_log_averages_over_intervals(source: ImageSource, tmp_path: Path) -> None:
    every = log(train(toy_recipe(), source, tmp_path / "a", workers=0, log_every=1))
    run = train(toy_recipe(), source, tmp_path / "b", workers=0, log_every=5)
    lines = log(run)
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert [line["epoch"] for line in lines] == [1.25, 2.5, 3.0]
    for line, steps in zip(lines, (every[:5], every[5:10], every[10:]), strict=True):
        for name in ("loss", "spread"):
            mean = sum(one["scalars"][name] for one in steps) / len(steps)
            assert line["scalars"][name] == pytest.approx(mean, rel=1e-5)
        assert 1 <= line["scalars"]["rank"] <= 3
        assert line["scalars"]["rank"] == steps[-1]["scalars"]["rank"]
        assert line["lr"] == steps[-1]["lr"]
        assert line["images_per_second"] > 0 and 0 <= line["data_wait"] <= 1 and line["peak_memory_mib"] > 10
    assert lines[-1]["eta_seconds"] == 0 < lines[0]["eta_seconds"]


def test_loader_processes_and_the_interval_change_nothing(source: ImageSource, tmp_path: Path) -> None:
    first = train(toy_recipe(), source, tmp_path / "a", workers=0)
    second = train(toy_recipe(), source, tmp_path / "b", workers=2, log_every=1, checkpoint_seconds=0)
    assert_same(weights(first), weights(second))


def test_the_seed_decides(source: ImageSource, tmp_path: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, second = (train(toy_recipe(), source, tmp_path / str(s), seed=s, workers=0) for s in (0, 1))
    assert not torch.equal(weights(first)["head.weight"], weights(second)["head.weight"])
    assert torch.equal(before, torch.get_rng_state()), "the caller's random state was touched"


def test_precision_reaches_the_network(source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Toy, "after_step", lambda toy, step, total: seen.append(toy.seen_dtype))
    for precision in ("bf16", "fp32"):
        run = train(toy_recipe(precision=precision, epochs=1), source, tmp_path / precision, workers=0)
        assert all(value.dtype in (torch.float32, torch.int64) for value in weights(run).values())
    assert seen == [torch.bfloat16] * 4 + [torch.float32] * 4


def test_compiling_takes_the_backbone(source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append(module))
    train(toy_recipe(epochs=1), source, tmp_path / "run", workers=0, acceleration=Acceleration(compile=True))
    assert [type(module) for module in compiled] == [torch.nn.Sequential]


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_checkpoint(source: ImageSource, tmp_path: Path) -> None:
    recipe = toy_recipe(method=ToyConfig(poison_at=7))
    for log_every in (1, 3):
        run = tmp_path / str(log_every)
        with pytest.raises(PretrainError, match="loss of step 7 is nan"):
            train(recipe, source, run, workers=0, log_every=log_every, checkpoint_seconds=0)
        assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 6
        assert not (run / "finished.json").exists()


@pytest.mark.parametrize("step", [4, STEPS])
def test_weights_that_are_not_finite_are_never_saved(
    source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The gradient of a finite loss overflows just before a checkpoint is due, or in the last step of all."""
    take = train_module.take_step

    def overflows(model: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        hooks = [p.register_hook(lambda g: g * math.inf) for p in model.parameters() if kwargs["step"] + 1 == step]
        try:
            return take(model, *args, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "take_step", overflows)
        with pytest.raises(PretrainError, match=f"norm of the gradient of step {step} is (nan|inf).* No checkpoint"):
            train(toy_recipe(), source, tmp_path / "run", workers=0, log_every=2, checkpoint_seconds=0)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == step - 2
    run = train(toy_recipe(), source, tmp_path / "run", workers=0, resume=True)
    assert all(value.isfinite().all() for value in weights(run).values())


@pytest.mark.parametrize("name", [" photos", "a" * 201, "a\tb", "bilder_\udce4"])
def test_a_name_of_the_data_that_fits_no_card_is_refused(source: ImageSource, tmp_path: Path, name: str) -> None:
    with pytest.raises(PretrainError, match=r"the name of the data '.*' cannot stand in a card: give one line of"):
        train(toy_recipe(), source, tmp_path / "run", data_name=name)
    assert not (tmp_path / "run").exists()


def test_any_folder_has_a_name_that_fits_a_card(tmp_path: Path) -> None:
    folder = write_images(tmp_path / os.fsdecode(b" bilder_\xe4\n"), 4)
    record = read_record(train(toy_recipe(epochs=1), open_images(folder), tmp_path / "run", workers=0))
    assert record.data_name == r"bilder_\udce4\n"


def test_batch_norm_of_one_value_says_what_to_change(source: ImageSource, tmp_path: Path) -> None:
    recipe = toy_recipe(method=ToyConfig(size=3), batch_size=1)  # one cell of one image
    with pytest.raises(PretrainError, match=r"batch norm needs two values of each channel .* raise batch_size"):
        train(recipe, source, tmp_path / "run", workers=0)


@pytest.mark.parametrize("lost", [1, -1])
def test_planned_steps_are_executed_steps(
    source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    per_epoch = train_module.steps_per_epoch
    monkeypatch.setattr(train_module, "steps_per_epoch", lambda *args: per_epoch(*args) + lost)
    with pytest.raises(PretrainError, match=f"executed {STEPS} steps, but {STEPS + 3 * lost} were planned"):
        train(toy_recipe(), source, tmp_path / "run", workers=0)
    assert not (tmp_path / "run" / "finished.json").exists()


def test_a_finished_run_is_not_repeated(source: ImageSource, tmp_path: Path) -> None:
    run = train(toy_recipe(), source, tmp_path / "run", workers=0)
    stamps = {file: file.stat().st_mtime_ns for file in run.iterdir() if file.is_file()}
    for resume in (False, True):
        assert train(toy_recipe(), source, run, workers=0, resume=resume) == run
    assert stamps == {file: file.stat().st_mtime_ns for file in run.iterdir() if file.is_file()}
    record = read_record(run)
    assert (record.images, record.steps_per_epoch, record.planned_steps, record.seed) == (18, 4, STEPS, 0)


@pytest.mark.parametrize(
    ("changes", "seed", "message"),
    [
        ({"epochs": 4}, 0, r"another run: recipe \(epochs 3 -> 4\)"),
        ({"method": ToyConfig(size=8)}, 0, r"method.size 16 -> 8"),
        ({}, 1, "another run: seed 0 -> 1"),
    ],
)
def test_another_run_in_the_folder_is_refused(
    source: ImageSource, tmp_path: Path, changes: dict[str, Any], seed: int, message: str
) -> None:
    run = train(toy_recipe(), source, tmp_path / "run", workers=0)
    for resume in (False, True):
        with pytest.raises(PretrainError, match=message):
            train(toy_recipe(**changes), source, run, seed=seed, resume=resume, workers=0)


def test_other_data_in_the_folder_is_refused(source: ImageSource, tmp_path: Path) -> None:
    run = train(toy_recipe(), source, tmp_path / "run", workers=0)
    more = open_images(write_images(tmp_path / "more", 19))
    with pytest.raises(PretrainError, match="another run: data"):
        train(toy_recipe(), more, run, resume=True, workers=0)


def test_a_folder_of_something_else_is_refused(source: ImageSource, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(PretrainError, match="holds no run"):
        train(toy_recipe(), source, tmp_path, resume=True)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("where", ["file/run", "file"])
def test_an_unwritable_folder_is_an_error(source: ImageSource, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PretrainError, match=r"cannot write into .*(Not a directory|File exists).*--out"):
        train(toy_recipe(), source, tmp_path / where)


def test_the_batch_must_fit_the_data(source: ImageSource, tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match="18 images do not fill one batch of 19"):
        train(toy_recipe(batch_size=19), source, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_tensorboard_is_said_before_anything_is_written(
    source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pretrain.run.log.find_spec", lambda name: None)
    with pytest.raises(PretrainError, match=r"pip install 'densebench\[tensorboard\]'"):
        train(toy_recipe(), source, tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_a_missing_gpu_is_an_error(source: ImageSource, tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match=r"device cuda:0 does not exist.* 0 GPU"):
        train(toy_recipe(), source, tmp_path / "run", device="cuda:0")


def train_on_a_full_disk(images: Path, out: Path) -> None:
    """Trains until its file-size limit, which stands for a full disk, is met by the checkpoint of a later step."""
    limits = []
    original = train_module.RunFolder.save

    def save(run: Any, progress: Any, *rest: Any) -> None:
        if progress.step == 5:
            limits.append(resource.getrlimit(resource.RLIMIT_FSIZE))
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[0][1]))
        original(run, progress, *rest)

    train_module.RunFolder.save = save  # type: ignore[method-assign]
    try:
        train(toy_recipe(), open_images(images), out, workers=0, log_every=1, checkpoint_seconds=0)
    except FileError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits[0])
        (out / "error.txt").write_text(str(error))


def test_a_full_disk_leaves_the_earlier_checkpoint(source: ImageSource, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = processes_context().Process(target=train_on_a_full_disk, args=(source.root, run))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert "cannot write" in (run / "error.txt").read_text() and "File too large" in (run / "error.txt").read_text()
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 4
    assert not list(run.glob(".*.tmp"))
    (run / "error.txt").unlink()
    finished = train(toy_recipe(), source, run, workers=0, resume=True)
    assert_same(weights(finished), weights(train(toy_recipe(), source, tmp_path / "whole", workers=0)))


class InterruptionError(Exception):
    pass


def train_as_rank(rank: int, ports: list[int], recipe: Recipe, images: Path, out: Path) -> None:
    """Trains as one of two ranks, is interrupted at step 7, and resumes."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(ports[0]),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    final: dict[str, torch.Tensor] = {}
    after = Toy.after_step
    interrupt = [7]

    def after_step(toy: Toy, step: int, total: int) -> None:
        if step in interrupt:
            interrupt.clear()
            raise InterruptionError
        after(toy, step, total)
        final.update({name: value.clone() for name, value in toy.state_dict().items()})

    Toy.after_step = after_step  # type: ignore[method-assign]
    settings: dict[str, Any] = {"workers": 0, "log_every": 2, "checkpoint_seconds": 0}
    with pytest.raises(InterruptionError):
        train(recipe, open_images(images), out, **settings)
    # Each group on a port of its own: on the old one a process may still meet the store of the group before.
    os.environ["MASTER_PORT"] = str(ports[1])
    train(recipe, open_images(images), out, resume=True, **settings)
    os.environ["MASTER_PORT"] = str(ports[2])
    with pytest.raises(PretrainError, match="another run: seed 0 -> 1"):  # on both ranks, though rank 0 alone looks
        train(recipe, open_images(images), out, seed=1, **settings)
    torch.save(final, out.parent / f"rank{rank}.pt")


def test_two_gloo_processes_are_one(source: ImageSource, tmp_path: Path) -> None:
    """Without batch norm, two processes with half the batch each take the steps of one; ranks end equal."""
    recipe = toy_recipe(method=ToyConfig(norm=False, dropout=0.0))
    ports = []
    for _ in range(3):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    processes = [
        processes_context().Process(target=train_as_rank, args=(rank, ports, recipe, source.root, tmp_path / "two"))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
    assert [process.exitcode for process in processes] == [0, 0]
    one = train(recipe, source, tmp_path / "one", workers=0, log_every=2)
    torch.testing.assert_close(weights(tmp_path / "two"), weights(one), rtol=1e-4, atol=1e-6)
    losses = [[line["scalars"]["loss"] for line in log(run)] for run in (one, tmp_path / "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert_same(*ranks)
    with pytest.raises(PretrainError, match="number of processes 2 -> 1"):
        train(recipe, source, tmp_path / "two", resume=True)
