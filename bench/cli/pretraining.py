"""Verbs of pretraining: what there is, run, watch, export."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from bench.cli.common import DEFAULT_WORK, AsJson, Work, app, print_json, print_table
from bench.errors import BenchError

if TYPE_CHECKING:
    from pretrain.recipes import Recipe

CHECKPOINT_ENDINGS = re.compile(r"(\.(pth|pt|tar|ckpt|safetensors|bin|pkl))+$")


@app.command
def methods(*, as_json: AsJson = False, markdown: bool = False) -> None:
    """List the methods that can be pretrained.

    Example: densebench methods --json

    Parameters
    ----------
    markdown
        Print a Markdown table (that of the README).
    """
    from dataclasses import asdict

    from pretrain.outside import every_method

    infos = [asdict(method.info) for method in every_method()]
    if as_json:
        return print_json(infos)
    keys = ["id", "unit", "partner", "loss", "second_network", "negatives", "fidelity", "paper"]
    columns, rows = [k.replace("_", " ") for k in keys], [[str(info[k]) for k in keys] for info in infos]
    if markdown:
        return print(*(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(keys), *rows)), sep="\n")
    print_table("Methods", columns, rows)


@app.command
def recipes(*, as_json: AsJson = False) -> None:
    """List the recipes: a method with data, backbone, schedule and the paper's figure.

    Example: densebench recipes
    """
    from pretrain.methods import gpu_memory
    from pretrain.outside import every_recipe

    listed = every_recipe().values()
    if as_json:
        return print_json([recipe.to_dict() for recipe in listed])
    columns = ["recipe", "backbone", "epochs", "batch", "precision", "data", "expected", "cost", "GiB"]
    rows = [
        [r.name, r.backbone, str(r.epochs), str(r.batch_size), r.precision, r.data, r.expected, r.cost, gpu_memory(r)]
        for r in listed
    ]
    print_table("Recipes", columns, rows)
    print(
        "GiB: memory on a GPU in bf16 / fp32 with 256 images, computed, not measured. The papers' recipes are fp32; "
        "on a GPU bf16 is recommended: --set precision=bf16"
    )


@app.command
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
    resume: bool = False,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    workers: int | Literal["auto"] = "auto",
    threads: int | None = None,
    on_damaged: Literal["error", "skip"] = "error",
    tensorboard: bool = False,
    compile_backbone: Annotated[bool, Parameter(name="--compile")] = False,
    cudnn_benchmark: bool = False,
    tf32: bool = False,
    prefetch: bool = False,
    recompute: bool = False,
) -> None:
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
    resume
        Continue an interrupted run exactly where its last checkpoint stands.
    settings
        Change one setting of the recipe, `key.sub=value`; may be repeated.
    workers
        Data loading processes; `auto`: on a GPU its share of the cores, on a CPU one.
    threads
        CPU threads of the training process (default: all cores).
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
    """
    import torch

    from pretrain.data.batches import open_images
    from pretrain.recipes import override
    from pretrain.run.acceleration import Acceleration
    from pretrain.run.train import train

    chosen = override(_recipe(recipe, config), settings or [])
    if threads is not None:
        torch.set_num_threads(threads)
    start = None if init is None else _submission_name(init)
    own = f"{chosen.name}-seed{seed}" + (f"-from-{start}" if start else "")
    folder = train(
        chosen,
        open_images(data),
        out or work / "pretraining" / own,
        data_name=data_name,
        seed=seed,
        stages=stages,
        init=None if init is None or start is None else lambda: _exported(init, start, work),
        resume=resume,
        workers=workers,
        on_damaged=on_damaged,
        tensorboard=tensorboard,
        acceleration=Acceleration(compile_backbone, cudnn_benchmark, tf32, prefetch, recompute),
    )
    if os.environ.get("RANK", "0") == "0":  # torchrun starts this verb once a process
        print(f"finished: {folder}\nnext: densebench export {folder}")


def _recipe(name: str | None, config: Path | None) -> Recipe:
    """The recipe called `name`, or that in the file `config`, whose method a file `name` may define."""
    from pretrain.outside import every_recipe, find_anywhere, load_methods
    from pretrain.recipe_files import read_recipe

    if config is None:
        if name is None:
            raise BenchError("name a RECIPE (`densebench recipes` lists them), a FILE.py, or --config FILE.json")
        return find_anywhere(name)
    known = every_recipe()
    if name is not None:
        if not name.endswith(".py"):
            raise BenchError(f"{name} and --config {config} both name a recipe: leave one out")
        known |= load_methods(Path(name)).recipes
    return read_recipe(config, known.values())


def _submission_name(checkpoint: str) -> str:
    """A name for an imported checkpoint: its own without the ending, in the characters that names may have."""
    path = Path(checkpoint)
    own = CHECKPOINT_ENDINGS.sub("", path.name)
    if own in ("export", "backbone"):  # what `densebench export` calls every folder and file
        own = path.resolve().parent.name
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", own).lstrip("._+-")[:60] or "checkpoint"


def _exported(checkpoint: str, name: str, work: Path) -> Path:
    """The exported folder `checkpoint`, or the one into which the importer converts it."""
    from bench.checkpoints import import_checkpoint
    from pretrain.exported import is_exported

    folder = Path(checkpoint)
    return folder if is_exported(folder) else import_checkpoint(checkpoint, name=name, work=work)


@app.command
def watch(
    runs: Annotated[list[Path], Parameter(name="RUN", negative="")],
    *,
    page: Path | None = None,
    once: bool = False,
) -> int:
    """Show the newest line of pretraining runs and follow them while they train; plot all that they logged.

    Exit code 1 if the runs end and one is not finished.

    Example: densebench watch densebench-work/pretraining/densecl-mini-seed0 --page run.html

    Parameters
    ----------
    runs
        One or several run folders.
    page
        Write an HTML page with a plot of every logged scalar over the steps.
    once
        Show (and write) the present state only.
    """
    from pretrain.run.watch import watch as watch_runs

    finished = watch_runs(runs, page=page, once=once)
    if page is not None:
        print(f"page: {page}")
    return 0 if once or finished else 1


@app.command
def export(
    run_folder: Annotated[Path, Parameter(name="RUN")],
    *,
    out: Path | None = None,
    name: str | None = None,
    unfinished: bool = False,
) -> None:
    """Write a finished run's backbone: `backbone.safetensors` (torchvision names) and `card.json`.

    Example: densebench export densebench-work/pretraining/densecl-mini-seed0

    Parameters
    ----------
    run_folder
        The folder of a finished pretraining run.
    out
        Target folder (default: RUN/export).
    name
        The name in the card (default: recipe and seed).
    unfinished
        Export the newest checkpoint of a run that has not ended; the card says how far it got.
    """
    from pretrain.export import export as export_run

    folder = export_run(run_folder, out, name=name, unfinished=unfinished)
    print(f"exported: {folder}\nnext: densebench submit {folder} --name NAME --data DATA_ROOT")


@app.command
def norm_rescale(
    checkpoint: Path,
    reference: Path,
    *,
    data: Path | None = None,
    out: Path | None = None,
    name: str | None = None,
    literal: bool = False,
    workers: int = 1,
) -> None:
    """Give a backbone the weight norms of another (NormRescale) and estimate its batch norm anew.

    For a backbone whose norms do not fit the learning rates of fine-tuning, e.g. one trained with LARS.

    Example: densebench norm-rescale byol/export moco-v2/export --data images/

    Parameters
    ----------
    checkpoint
        A folder written by `export` or in WORK/checkpoints.
    reference
        The like, of the same architecture: the one with the norms.
    data
        Folder (or .txt list) of images on which batch norm's running statistics are estimated.
    out
        Target folder (default: CHECKPOINT-rescaled).
    name
        The name in the new card (default: the old with -rescaled).
    literal
        Rescale running statistics like weights, as the authors' script does; reads no images.
    workers
        Data loading processes.
    """
    from pretrain.data.batches import open_images
    from pretrain.norm_rescale import norm_rescale as rescale

    folder = rescale(
        checkpoint,
        reference,
        out or checkpoint.resolve().with_name(f"{checkpoint.resolve().name}-rescaled"),
        images=None if data is None else open_images(data),
        literal=literal,
        name=name,
        workers=workers,
    )
    print(f"rescaled: {folder}\nnext: densebench submit {folder} --name NAME --data DATA_ROOT")
