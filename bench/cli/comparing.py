"""The command that compares methods under one budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bench.cli.cluster import LOCAL, Cluster
from bench.cli.common import COMPARE, DEFAULT_WORK, Work, app
from bench.errors import BenchError
from leaderboard.base.errors import Interrupted

if TYPE_CHECKING:
    from bench.submit import Evaluation
    from pretrain.data.batches import ImageSource
    from pretrain.recipes import Recipe


@app.command(group=COMPARE)
def compare(
    recipes: Annotated[list[str], Parameter(name="RECIPE")],
    *,
    images: Path,
    data: Path,
    seeds: int = 3,
    views: int = 40,
    backbone: str | None = None,
    resolution: int | None = None,
    batch: int | None = None,
    settings: Annotated[list[str] | None, Parameter(name="--set")] = None,
    rates: Annotated[list[float] | None, Parameter(name="--rate")] = None,
    init: str | None = None,
    scratch: bool = False,
    track: str = "frozen",
    protocols: Annotated[list[str] | None, Parameter(name="--protocol")] = None,
    evaluation_seeds: int | None = None,
    work: Work = DEFAULT_WORK,
    processes: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    cluster: Cluster = LOCAL,
) -> int:
    """Pretrain several methods under one budget, evaluate them alike, and say what can be told apart.

    Every method sees the same images, as many crops of each, with the same backbone, resolution and batch. Random
    initialisation stands beside, another network with each seed, and a classifier trained with labels if its recipe
    (supervised-mini) is named and the images of each class lie in a folder of their own. Repeating the command
    continues interrupted work; what has a result is not done again, even when its weights are gone.

    Example: densebench compare moco-v2-mini densecl-mini simsiam-mini --images images/ --data data/ --batch 64

    Parameters
    ----------
    recipes
        Names from `densebench recipes`, or files with methods of your own (FILE.py, FILE.py:NAME).
    images
        What is pretrained on: a folder of images, a list, or tar shards.
    data
        Data root of the evaluation, with VOCdevkit/, coco/ and cityscapes/; for track custom, data of your own that
        `densebench data describe` has described.
    seeds
        Pretraining seeds: 0 to SEEDS - 1.
    views
        Crops of each image that every method sees in its training; 40 are 20 epochs of two crops.
    backbone
        Architecture of all (default: that of --init, or of the recipes, if they agree).
    resolution
        Side in pixels of all crops, of the largest where a method has several sizes (default: as for backbone).
    batch
        Images per step; learning rates follow in proportion (default: as for backbone).
    settings
        Change one setting of every recipe, `key.sub=value`; may be repeated.
    rates
        Try this multiple of each recipe's learning rate, and choose by held-out training images; may be repeated.
    init
        Continue this checkpoint with every method; it stands in the table as it is, too.
    scratch
        With --init: also pretrain every method from random weights, to see what the checkpoint gives.
    track
        A list of protocols, seeds and rules.
    protocols
        Evaluate by this protocol alone; may be repeated.
    evaluation_seeds
        Use only the track's first seeds.
    processes
        How many trainings or runs at a time (default: one per GPU; on a CPU one per core, at most 4).
    threads
        CPU threads of each training and run (default: its share of the cores).
    device
        cuda, cuda:N or cpu (default: all GPUs that there are, else the CPU).
    """
    from bench.checkpoints.given import exported_folder, submission_name
    from bench.compare.budget import common_budget, under
    from bench.compare.comparison import Comparison, execute
    from bench.compare.rates import choose_rates
    from bench.compare.report import ProgressLines, print_comparison, rate_lines
    from leaderboard.base.files import require_writable
    from leaderboard.base.provenance import available_cores
    from pretrain.data.batches import open_images
    from pretrain.exported import read_exported
    from pretrain.run.precision import slow_precision

    if seeds < 1:
        raise BenchError(f"--seeds is {seeds}: give 1 or more")
    if scratch and init is None:
        raise BenchError("--scratch goes with --init CHECKPOINT: without it every method starts from random weights")
    executor = cluster.choose(work, processes=processes, threads=threads, device=device)
    start = None if init is None else read_exported(exported_folder(init, submission_name(init), work))
    found = [_recipe(name, settings or []) for name in recipes]
    if len({recipe.name for recipe, _ in found}) < len(found):
        raise BenchError("two of the recipes have the same name: name each once")
    budget = common_budget(
        [recipe for recipe, _ in found],
        views=views,
        backbone=backbone or (start.card.architecture if start else None),
        resolution=resolution,
        batch_size=batch,
    )
    require_writable(work / "results")
    source = open_images(images)
    _check_labels([recipe for recipe, _ in found], source)
    comparison = Comparison(
        recipes=tuple((under(recipe, budget), file) for recipe, file in found),
        seeds=tuple(range(seeds)),
        images=images,
        data_fingerprint=source.fingerprint(),
        init=start,
        evaluation=_evaluation(data, track, protocols or [], evaluation_seeds),
        work=work,
        scratch=scratch,
    )
    slow = [advice for recipe, _ in found if (advice := slow_precision(recipe.precision, device))]
    if slow and not executor.at_once:
        print(slow[0])
    lines = ProgressLines(None if executor.at_once else processes or min(4, available_cores()))
    try:
        if rates:
            probes = _probes(comparison.evaluation, track)
            comparison, tried = choose_rates(comparison, found, rates, budget, probes, lines, executor)
            print("\n".join(rate_lines(tried)))
        failures = execute(comparison, lines, executor)
    except KeyboardInterrupt as stop:
        text = "stopped: what is finished is kept; repeat the command to continue"
        raise Interrupted.after(stop, text) from stop
    print_comparison(comparison, failures)
    return 1 if failures else 0


def _check_labels(recipes: Sequence[Recipe], source: ImageSource) -> None:
    """Say that no classifier trained with labels stands beside, or check that the images have some."""
    from pretrain.data.labels import folder_labels
    from pretrain.methods.supervised import SupervisedConfig

    if any(isinstance(recipe.method, SupervisedConfig) for recipe in recipes):
        folder_labels(source)
    else:
        print("no supervised anchor: name the recipe supervised-mini, too, if the images have a folder for each class")


def _recipe(name: str, settings: list[str]) -> tuple[Recipe, Path | None]:
    """The recipe, and the file of its method if that is from outside."""
    from pretrain.outside import find_anywhere, split_name
    from pretrain.recipes import override

    file, _ = split_name(name)
    return override(find_anywhere(name), settings), None if file is None else Path(file).absolute()


def _probes(evaluation: Evaluation, track: str) -> Evaluation:
    """The probes by which learning rates are chosen: those of track frozen, or of the evaluation on own data."""
    from bench.probes.plans import ProbePlan

    if track != "custom":
        return _evaluation(evaluation.data, "frozen", [], None)
    probes = [protocol.id for protocol in evaluation.protocols if isinstance(protocol.plan, ProbePlan)]
    if not probes:
        raise BenchError("--rate chooses by probes of label maps, which your data have not: leave it out")
    return _evaluation(evaluation.data, track, probes, 1)


def _evaluation(data: Path, track: str, protocols: list[str], seeds: int | None) -> Evaluation:
    from bench.submit import Evaluation, check_data_sets, choose_protocols

    chosen, of_track = choose_protocols(track, protocols, seeds, data=data)
    return Evaluation(tuple(chosen), of_track, data, check_data_sets(data, chosen))
