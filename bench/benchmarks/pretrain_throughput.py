"""Images per second of pretraining, end to end, compared with other pipelines.

    python -m bench.benchmarks.pretrain_throughput --data images/ --recipe moco-v2-mini --set batch_size=128

ours       the training loop: decoding, crops and colors of our pipeline, step and log
device     the same step on finished views that are already on the device: the speed of a perfect pipeline
pillow     the same step with the usual pipeline: Pillow, torchvision's transforms, a data loader
lightly    lightly's MoCo v2 or DenseCL, with its own transform, at the same settings (where it is installed)

Rounds are interleaved, every pipeline starts anew in each, and all have the same number of loading processes.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import Parameter, run
from rich.table import Table

from bench.benchmarks import lightly_step
from bench.benchmarks.pil_pipeline import PillowDataset, ViewTransforms, as_views, batches
from bench.benchmarks.rounds import Contestant, Step, compare, endless, in_words, machine, measure, output, start
from bench.benchmarks.trainee import Trainee
from pretrain.data.batches import ImageSource, Loading, open_images
from pretrain.data.views import View
from pretrain.methods import all_recipes
from pretrain.recipes import Recipe, find_recipe, override
from pretrain.run.acceleration import PLAIN, Acceleration
from pretrain.run.device_gaps import DeviceGaps
from pretrain.run.feed import feed
from pretrain.run.processes import process_group

ON_DEVICE = 4
"""Number of batches on the device, which are used in turn."""
AIMS = {
    "device": "at least 0.90",
    "pillow": "at least 3 on a GPU with 16 cores",
    "lightly": "at least 3 on a GPU with 16 cores, 1.5 on two CPU cores",
}
"""Goals for the ratio of our images per second to those of another pipeline."""


def throughput(
    recipe: Recipe,
    source: ImageSource,
    device: torch.device,
    *,
    workers: int,
    rounds: int,
    warmup: int,
    steps: int,
) -> dict[str, Any]:
    """Images per second of all contestants in all rounds, and the ratios of ours to each of the others'."""
    with tempfile.TemporaryDirectory() as folder:
        trainee = Trainee(recipe, source, device, Path(folder))
        contestants = [
            Contestant("ours", lambda: fed_steps(trainee, source, workers)),
            Contestant("device", StepsOnDevice(trainee, source, workers)),
            Contestant("pillow", lambda: _pillow(trainee, source, workers)),
        ]
        reason = lightly_step.unavailable(recipe)
        if reason is None:
            theirs = lightly_step.LightlyStep(recipe, device)
            contestants.append(Contestant("lightly", lambda: _lightly(theirs, trainee, source, workers)))
        seconds = measure(contestants, device, rounds=rounds, warmup=warmup, steps=steps)
    speeds = {name: [recipe.batch_size / s for s in values] for name, values in seconds.items()}
    return {
        "images_per_second": speeds,
        "median": {name: statistics.median(values) for name, values in speeds.items()},
        "ours_over": {
            name: asdict(compare(speeds["ours"], values)) for name, values in speeds.items() if name != "ours"
        },
        "left_out": {} if reason is None else {"lightly": reason},
    }


@contextmanager
def fed_steps(
    trainee: Trainee,
    source: ImageSource,
    workers: int,
    acceleration: Acceleration = PLAIN,
    gaps: DeviceGaps | None = None,
) -> Iterator[Step]:
    """Training steps end to end, with a pipeline of their own; `gaps` is told when each begins and ends."""

    def step() -> None:
        views, waited = next(fed)
        if gaps is not None:
            gaps.step_begins()
        trainee.take(views, waited)
        if gaps is not None:
            gaps.step_ends()

    with (
        acceleration.applied(trainee.process.device),
        closing(fed_views(trainee, source, workers, acceleration)) as fed,
    ):
        yield step


def fed_views(
    trainee: Trainee, source: ImageSource, workers: int, acceleration: Acceleration = PLAIN
) -> Generator[tuple[list[View], float], None, None]:
    """Endless finished views, as the training loop gets them."""
    device = trainee.process.device
    return feed(
        source,
        trainee.method.plan,
        Loading(trainee.recipe.batch_size, workers=workers, pin=device.type == "cuda"),
        device,
        epochs=2**31,
        first_step=trainee.step,
        prefetch=acceleration.prefetch,
    )


class StepsOnDevice:
    """Steps without a pipeline: views are made once and stay on the device."""

    def __init__(self, trainee: Trainee, source: ImageSource, workers: int) -> None:
        with closing(fed_views(trainee, source, min(workers, ON_DEVICE))) as fed:
            self._views = [views for _, (views, _) in zip(range(ON_DEVICE), fed, strict=False)]
        self._trainee, self._acceleration = trainee, PLAIN

    def under(self, acceleration: Acceleration) -> StepsOnDevice:
        """The same steps on the same views, with other acceleration settings."""
        other = copy(self)
        other._acceleration = acceleration
        return other

    @contextmanager
    def __call__(self) -> Iterator[Step]:
        """The steps."""
        turn = endless(len(self._views))
        with self._acceleration.applied(self._trainee.process.device):
            yield lambda: self._trainee.take(self._views[next(turn)])


@contextmanager
def _pillow(trainee: Trainee, source: ImageSource, workers: int) -> Iterator[Step]:
    dataset = PillowDataset(source, ViewTransforms(trainee.method.plan))
    size, device = trainee.recipe.batch_size, trainee.process.device
    with closing(batches(dataset, len(source), batch_size=size, workers=workers, device=device)) as loaded:
        yield lambda: trainee.take(as_views(next(loaded)))


@contextmanager
def _lightly(theirs: lightly_step.LightlyStep, trainee: Trainee, source: ImageSource, workers: int) -> Iterator[Step]:
    both = lightly_step.transform(trainee.method.plan, trainee.recipe.method)
    dataset = PillowDataset(source, both)
    size, device = trainee.recipe.batch_size, trainee.process.device
    with closing(batches(dataset, len(source), batch_size=size, workers=workers, device=device)) as loaded:
        yield lambda: theirs.take(next(loaded))


def main(
    *,
    data: Path,
    recipe: str = "moco-v2-mini",
    settings: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    rounds: int = 5,
    warmup: int = 3,
    steps: int = 20,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Compare images per second of pretraining with the step alone, with Pillow and torchvision, and with lightly.

    Example: python -m bench.benchmarks.pretrain_throughput --data images/ --recipe moco-v2-mini --set batch_size=128

    Parameters
    ----------
    data
        Folder (or .txt list) of images.
    recipe
        A name from `densebench recipes`.
    settings
        Change one setting of the recipe, `key.sub=value`; may be repeated.
    workers
        Loading processes of each pipeline (default: as many as training starts by itself).
    threads
        CPU threads of the training process (default: all cores).
    device
        cuda or cpu (default: cuda where there is one).
    rounds
        Number of turns of each contestant.
    warmup
        Steps of a turn before the clock runs.
    steps
        Steps of a turn that count.
    as_json
        Print JSON.
    """
    chosen = override(find_recipe(all_recipes(), recipe), settings or [])
    if threads is not None:
        torch.set_num_threads(threads)
    source = open_images(data)
    with process_group(device) as process:
        about = machine(process.device, chosen.precision)
        workers = process.loader_workers() if workers is None else workers
        options = {"workers": workers, "rounds": rounds, "warmup": warmup, "steps": steps}
        found = throughput(chosen, source, process.device, **options)
    report = {"machine": about, "recipe": chosen.to_dict(), "images": len(source), **options, **found}
    if as_json:
        print(json.dumps(report, indent=2))
        return
    sizes = " + ".join(str(spec.size) for spec in chosen.method.build().plan.specs)
    console = output()
    console.print(in_words(about), markup=False)
    console.print(f"{chosen.name}, {chosen.backbone}, batch {chosen.batch_size}, views {sizes} px, {workers} workers")
    table = Table("", "images/s", "ours / it", "lowest", "highest", "aim", show_edge=False, pad_edge=False)
    for name, speed in found["median"].items():
        ratio = found["ours_over"].get(name)
        figures = [f"{ratio[key]:.2f}" for key in ("median", "low", "high")] if ratio else ["", "", ""]
        table.add_row(name, f"{speed:.1f}", *figures, AIMS.get(name, ""))
    console.print(table)
    for name, reason in found["left_out"].items():
        console.print(f"{name}: not compared: {reason}", markup=False)


if __name__ == "__main__":
    start(lambda: run(main))
