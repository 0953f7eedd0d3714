"""Commands of pretraining runs that are there: watch, export, rescale."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bench.cli.common import PRETRAIN, app
from bench.errors import BenchError


@app.command(group=PRETRAIN)
def watch(
    runs: Annotated[list[Path], Parameter(name="RUN")],
    *,
    page: Path | None = None,
    images: Path | None = None,
    stages: Path | None = None,
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
    images
        The images that the runs were made with: the page then shows what stages and methods have found in six of them
        (masks, regions, boxes, neighbors, corresponding boxes).
    stages
        Folder of the stages, if the runs were made with one.
    once
        Show (and write) the present state only.
    """
    from pretrain.data.batches import open_images
    from pretrain.run.pictures import Gallery
    from pretrain.run.watch import watch as watch_runs

    if images is not None and page is None:
        raise BenchError("--images draws on a page: name it, --page FILE.html")
    gallery = None if images is None else Gallery(open_images(images), stages)
    finished = watch_runs(runs, page=page, gallery=gallery, once=once)
    if page is not None:
        print(f"page: {page}")
    return 0 if once or finished else 1


@app.command(group=PRETRAIN)
def export(
    run_folder: Annotated[Path, Parameter(name="RUN")],
    *,
    format_: Annotated[str | None, Parameter(name="--format")] = None,
    out: Path | None = None,
    name: str | None = None,
    unfinished: bool = False,
) -> None:
    """Write a finished run's backbone: `backbone.safetensors` (torchvision names) and `card.json`.

    With `--format` also in the form of another library, with a README that says how to load it there: then RUN/export
    is written only where it is missing and `--out` is not given.

    Example: densebench export densebench-work/pretraining/densecl-mini-seed0 --format timm

    Parameters
    ----------
    run_folder
        The folder of a finished pretraining run; with `--format` also one that `export` or an import wrote.
    format_
        torchvision, timm, huggingface, mmdet, detectron2 or lightly.
    out
        Target folder (default: RUN/export); with `--format` that of the library's files alone (default:
        RUN/export-FORMAT).
    name
        The name in the card and in the README (default: recipe and seed, or that of the folder's card).
    unfinished
        Export the newest checkpoint of a run that has not ended; the card says how far it got.
    """
    from bench.exports import find_form, read_source, write_form
    from pretrain.export import export as export_run

    if format_ is None:
        _say_exported(export_run(run_folder, out, name=name, unfinished=unfinished))
        return
    form = find_form(format_)
    source = read_source(run_folder, also_export=out is None, name=name, unfinished=unfinished)
    if source.written:
        _say_exported(source.folder)
    elif source.kept:
        print(f"kept: {source.folder} as it was (without --format it is written anew)")
    written = write_form(source.exported, form, out or source.folder.with_name(f"{source.folder.name}-{form.name}"))
    print(f"{form.name}: {', '.join(str(path) for path in written)}")


def _say_exported(folder: Path) -> None:
    print(f"exported: {folder}\nnext: densebench submit {folder} --name NAME --data DATA_ROOT")


@app.command(group=PRETRAIN)
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
