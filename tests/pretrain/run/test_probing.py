"""Probes while training: the training has the same bits, each is done once, and what they found is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import pytest
import torch
from test_resume import assert_same_end
from torch import Tensor
from toy import Toy, toy_recipe, write_images

from leaderboard.base.terminal import Console
from pretrain.data.batches import open_images
from pretrain.errors import PretrainError
from pretrain.run.curves import training_curves
from pretrain.run.folder import RunRecord
from pretrain.run.history import WatchedRun, newest
from pretrain.run.plots import render
from pretrain.run.probing import FILE, Probed, Probing, read_probes
from pretrain.run.train import train
from pretrain.run.watch import watch

STEPS = [0, 8, 12]  # 18 images in batches of 4, 3 epochs, probed every second and in the end


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


class Measure:
    """Draws random numbers, changes what it is given, and counts its calls; fails where it is told to."""

    def __init__(self, fail_at: int = -1) -> None:
        self.steps: list[int] = []
        self.fail_at = fail_at
        self.seen: list[dict[str, Tensor]] = []

    def __call__(self, tensors: Mapping[str, Tensor], record: RunRecord, step: int) -> Sequence[Probed]:
        if step == self.fail_at:
            raise PretrainError("the data are gone")
        self.steps.append(step)
        self.seen.append({name: tensor.clone() for name, tensor in tensors.items()})
        torch.rand(7)
        for tensor in tensors.values():
            tensor.zero_()
        return [Probed("linear, mIoU", "abc", 100 / 3 + step, 0.5), Probed("knn mIoU", "abc", 20.0, 0.25)]


def run(images: Path, out: Path, measure: Measure | None = None, **changes: bool | float) -> Path:
    probing = None if measure is None else Probing(measure, every=2)
    settings = {"workers": 0, "log_every": 1, "checkpoint_seconds": 0.0} | changes
    return train(toy_recipe(), open_images(images), out, probing=probing, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(images, tmp_path_factory.mktemp("runs") / "plain")


@pytest.fixture(scope="module")
def probed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(images, tmp_path_factory.mktemp("runs") / "probed", Measure())


def test_the_training_has_the_same_bits(plain: Path, probed: Path) -> None:
    assert_same_end(probed, plain)
    assert not (plain / FILE).exists()


def test_what_is_measured_is_the_backbone_of_that_step(images: Path, tmp_path: Path, plain: Path) -> None:
    measure = Measure()
    run(images, tmp_path / "run", measure)
    assert measure.steps == STEPS
    state = torch.load(plain / "checkpoint.pt", weights_only=True)["method"]
    last = measure.seen[-1]
    assert last.keys() == {name.removeprefix("backbone.") for name in state if name.startswith("backbone.")}
    assert all(torch.equal(tensor, state[f"backbone.{name}"]) for name, tensor in last.items())
    torch.manual_seed(0)
    start = Toy(toy_recipe().method).backbone.state_dict()  # type: ignore[arg-type]
    assert all(torch.equal(tensor, start[name]) for name, tensor in measure.seen[0].items())


@pytest.mark.parametrize("saved", [True, False], ids=["saved at every step", "never saved"])
@pytest.mark.parametrize("fail_at", STEPS)
def test_a_resumed_run_repeats_no_probe(
    fail_at: int, saved: bool, images: Path, tmp_path: Path, plain: Path, probed: Path
) -> None:
    out, first, second = tmp_path / "run", Measure(fail_at), Measure()
    period = 0.0 if saved else 1e9
    with pytest.raises(PretrainError, match="the data are gone"):
        run(images, out, first, checkpoint_seconds=period)
    run(images, out, second, resume=True, checkpoint_seconds=period)
    assert first.steps + second.steps == STEPS
    assert_same_end(out, plain)
    lines, whole = ([(x.step, x.epoch, x.probe, x.value) for x in read_probes(folder)] for folder in (out, probed))
    assert lines == whole


def test_later_probes_of_earlier_steps_take_their_place(images: Path, tmp_path: Path) -> None:
    """A run that is probed more often after it was resumed trains steps again that lie before its last probe."""
    out = tmp_path / "run"
    with pytest.raises(PretrainError, match="the data are gone"):
        run(images, out, Measure(fail_at=12), checkpoint_seconds=1e9)
    assert [line.step for line in read_probes(out)[::2]] == [0, 8]
    train(toy_recipe(), open_images(images), out, probing=Probing(Measure(), every=1), workers=0, resume=True)
    steps = [step for step in (0, 4, 8, 12) for _ in range(2)]
    text = (out / FILE).read_text().splitlines()
    assert [int(line.split(",")[0]) for line in text[1:]] == steps
    curve = training_curves(out, "0" * 64).curves[0]
    assert (curve.steps, curve.values) == ((0, 4, 8, 12), tuple(100 / 3 + step for step in (0, 4, 8, 12)))
    # an earlier version left them in the order of their measurement
    (out / FILE).write_text("\n".join([text[0], *text[3:], *text[1:3]]) + "\n")
    assert [line.step for line in read_probes(out)] == steps


def test_what_was_found_is_kept_exactly_and_shown(probed: Path) -> None:
    lines = read_probes(probed)
    assert [line.step for line in lines[::2]] == STEPS and [line.epoch for line in lines[::2]] == [0, 2, 3]
    assert (lines[0].probe, lines[0].value, lines[0].standard_error) == ("linear, mIoU", 100 / 3, 0.5)
    watched = WatchedRun(probed, keep_history=True)
    assert watched.update() and not watched.update()
    assert newest(watched)["linear, mIoU"] == "45.3 ± 0.5"
    page = render([watched])
    assert page.index("Frozen probes") < page.index("<h2>Loss</h2>") and "linear, mIoU over steps" in page
    shown = StringIO()
    watch([probed], once=True, console=Console(file=shown, width=100))
    assert "45.3 ± 0.5" in shown.getvalue()


def test_the_time_of_probes_is_not_the_training_s(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    after = Toy.after_step

    def step_of_a_second(toy: Toy, step: int, total: int) -> None:
        now[0] += 1
        after(toy, step, total)

    monkeypatch.setattr(Toy, "after_step", step_of_a_second)

    class Slow(Measure):
        def __call__(self, *given: object) -> Sequence[Probed]:
            now[0] += 100
            return super().__call__(*given)  # type: ignore[arg-type]

    out = run(images, tmp_path / "run", Slow())
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["seconds"] for line in lines] == list(range(1, 13))
    assert {line["images_per_second"] for line in lines} == {4.0}
    assert json.loads((out / "finished.json").read_text())["seconds"] == 12
    assert [line.seconds for line in read_probes(out)] == [50.0] * 6


HEAD = "step,epoch,probe,data,value,standard_error,seconds\n"


@pytest.mark.parametrize("text", ["step,epoch\n1,2\n", "", "\0\n", f"{HEAD}1,1,a,b,nan,0,0\n", f"{HEAD}1,1\n"])
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(PretrainError, match=f"{FILE} is damaged .* remove it"):
        read_probes(tmp_path)


def test_every_is_a_number_of_epochs() -> None:
    with pytest.raises(PretrainError, match="every 1 or more epochs"):
        Probing(Measure(), every=0)
