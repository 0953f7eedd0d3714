"""The command that pretrains a backbone."""

from __future__ import annotations

import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from bench.cli.cluster import LOCAL, Cluster
from bench.cli.common import DEFAULT_WORK, PRETRAIN, Work, app, is_first
from bench.errors import BenchError
from leaderboard.base.errors import Interrupted

if TYPE_CHECKING:
    from pretrain.recipes import Recipe
    from pretrain.run.probing import Probing


@app.command(group=PRETRAIN)
def pretrain(
    recipe: str | None = None,
    *,
    data: Path,
    config: Path | None = None,
    data_name: str | None = None,
    out: Path | None = None,
    work: Work = DEFAULT_WORK,
    seed: int = 0,
    init: str | None = None,
    stages: Path | None = None,
    probe: Path | None = None,
    every: int | None = None,
    resume: bool = False,
    settings: Annotated[list[str] | None, Parameter(name="--set")] = None,
    workers: int | Literal["auto"] = "auto",
    threads: int | None = None,
    device: str | None = None,
    on_damaged: Literal["error", "skip"] = "error",
    tensorboard: bool = False,
    compile_backbone: Annotated[bool, Parameter(name="--compile")] = False,
    cudnn_benchmark: bool = False,
    tf32: bool = False,
    prefetch: bool = False,
    recompute: bool = False,
    checkpoint_seconds: float = 120.0,
    devices: int = 1,
    cluster: Cluster = LOCAL,
) -> int:
    """Pretrain a backbone with a recipe on a folder, list or tar shards of images; under `torchrun` on many GPUs.

    Example: densebench pretrain densecl-mini --data images/ --set epochs=50 --set optimizer.lr=0.1

    Parameters
    ----------
    recipe
        A name from `densebench recipes`, or a file with a method of your own: FILE.py, or FILE.py:NAME where it states
        several recipes.
    config
        Read the recipe from this file, a run's run.json or one recipe of `densebench recipes --json`; beside it, RECIPE
        may only be the FILE.py of its method.
    data
        Folder of images (searched recursively), text file with one image path a line, or tar shards: a folder of
        them or a pattern such as "train-{000..146}.tar".
    data_name
        What the card calls these images (default: the folder's name).
    out
        Run folder (default: WORK/pretraining/RECIPE-seedSEED, with -from-CHECKPOINT where it starts from one).
    seed
        Every random draw is a function of it.
    init
        Start from the backbone of this checkpoint, any that `densebench inspect` can read, or an exported folder.
    stages
        Folder for the stages before the last training, for recipes of several (default: stages in the run folder);
        runs that share it compute equal stages once.
    probe
        Data root with labels: measure the backbone there before, while and after it is trained, by the linear probes of
        the track frozen; `watch` shows and plots the values. The training is the same with and without.
    every
        Epochs from one probe to the next (default: a tenth of the run's, at least 1).
    resume
        Continue an interrupted run exactly where its last checkpoint stands.
    settings
        Change one setting of the recipe, `key.sub=value`; may be repeated.
    workers
        Data loading processes; `auto`: on a GPU its share of the cores, on a CPU one.
    threads
        CPU threads of the training process (default: all cores).
    device
        cuda, cuda:N or cpu (default: cuda where there is a GPU; under `torchrun` each process has a GPU of its own).
    on_damaged
        What a damaged image does: stop with its name, or be replaced by the next readable one and counted.
    tensorboard
        Also write TensorBoard files (needs `pip install densebench[tensorboard]`).
    compile_backbone
        Compile the backbone with torch.compile (needs a compiler on a CPU).
    cudnn_benchmark
        On a GPU, let cuDNN try its convolutions and take the fastest.
    tf32
        On a GPU, let float32 matrix products run in TF32; the blur's pixels then differ by up to 5e-4.
    prefetch
        On a GPU, make the next views beside the step; the result is the same.
    recompute
        Keep less of the backbone's activations and compute them again for the gradient: less memory, more time.
    checkpoint_seconds
        Least time between two checkpoints; 0: one with every line of the log. Ctrl-C and SIGTERM also save one.
    devices
        Number of GPUs of one machine (with --device cpu: of processes) that share the training, by `torchrun`.
    """
    given = dict(locals())
    import torch

    from bench.checkpoints.given import exported_folder, submission_name
    from pretrain.data.batches import open_images
    from pretrain.recipes import override
    from pretrain.run.acceleration import Acceleration
    from pretrain.run.precision import slow_precision
    from pretrain.run.train import train

    if not checkpoint_seconds >= 0:
        raise BenchError(f"--checkpoint-seconds is {checkpoint_seconds}: give 0 or more")
    if threads is not None and threads < 1:
        raise BenchError(f"--threads is {threads}: give 1 or more")
    chosen = override(_recipe(recipe, config), settings or [])
    if threads is not None:
        torch.set_num_threads(threads)
    start = None if init is None else submission_name(init)
    own = f"{chosen.name}-seed{seed}" + (f"-from-{start}" if start else "")
    out = out or work / "pretraining" / own
    if cluster.choose(work).at_once or devices > 1:
        return _elsewhere(given, chosen, out)
    images = open_images(data)
    if (advice := slow_precision(chosen.precision, device)) and is_first():
        print(advice)
    try:
        folder = train(
            chosen,
            images,
            out,
            data_name=data_name,
            seed=seed,
            stages=stages,
            init=None if init is None or start is None else lambda: exported_folder(init, start, work),
            resume=resume,
            device=device,
            workers=workers,
            on_damaged=on_damaged,
            tensorboard=tensorboard,
            acceleration=Acceleration(compile_backbone, cudnn_benchmark, tf32, prefetch, recompute),
            probing=_probing(probe, every, chosen, out),
            checkpoint_seconds=checkpoint_seconds,
        )
    except KeyboardInterrupt as stop:
        raise Interrupted.after(stop, "stopped: --resume continues from the last checkpoint, if there is one") from stop
    if is_first():
        print(f"finished: {folder}\n{_next(chosen, folder, stages)}")
    return 0


def _elsewhere(given: dict[str, Any], chosen: Recipe, out: Path) -> int:
    """Pretrain by the command line itself: under `torchrun` on this machine, in place of this process, or in a job."""
    from bench.executors.command import CommandRun, arguments_of, execute_command, pretrain_words

    cluster, devices, work, threads = (given[name] for name in ("cluster", "devices", "work", "threads"))
    if devices < 1:
        raise BenchError(f"--devices is {devices}: give 1 or more")
    again = {name: value for name, value in given.items() if name not in ("cluster", "devices")}
    if cluster == LOCAL:
        os.execv(sys.executable, [sys.executable, *pretrain_words(arguments_of(pretrain, again), devices)])
    words = pretrain_words(arguments_of(pretrain, again | {"out": out, "resume": True}), devices)
    key = f"{out.name}-{sha256(str(out.absolute()).encode()).hexdigest()[:8]}"
    run = CommandRun(key, work / "slurm" / key, words)
    executor = cluster.choose(work, threads=threads, device=given["device"], devices=devices)
    (outcome,) = executor.run_all([run], finished=lambda outcome: None, execute=execute_command)
    if outcome.failure:
        raise BenchError(f"{outcome.failure}; repeat the command to continue")
    print(f"finished: {out}\n{_next(chosen, out, given['stages'])}")
    return 0


def _next(recipe: Recipe, folder: Path, stages: Path | None) -> str:
    """What may be done with a finished run."""
    if recipe.epochs:
        return f"next: densebench export {folder}"
    from pretrain.run.stages import product_of

    last = recipe.stages[-1].name
    return f"{last}: {product_of(folder, len(recipe.stages), last, stages)}"


def _probing(data: Path | None, every: int | None, recipe: Recipe, out: Path) -> Probing | None:
    """Settings by which the run in `out` is probed on the data root `data`, which is checked here."""
    from pretrain.run.probing import Probing

    if data is None:
        if every is not None:
            raise BenchError("--every says how often --probe ROOT is done: give both, or none")
        return None
    from bench.training_probe import TrainingProbe

    probe = TrainingProbe(data, out / "probe")
    if is_first():
        probe.protocols  # noqa: B018 - what cannot be used is said before the training
    return Probing(probe, every=max(1, recipe.epochs // 10) if every is None else every)


def _recipe(name: str | None, config: Path | None) -> Recipe:
    """The recipe called `name`, or that in the file `config`, whose method a file `name` may define."""
    from pretrain.outside import find_anywhere, find_written

    if config is None:
        if name is None:
            raise BenchError("name a RECIPE (`densebench recipes` lists them), a FILE.py, or --config FILE.json")
        return find_anywhere(name)
    if name is not None and not name.endswith(".py"):
        raise BenchError(f"{name} and --config {config} both name a recipe: leave one out")
    return find_written(config, None if name is None else Path(name))
