"""The command line: every verb, nothing else. Each verb calls one function and prints what it returns.

Exit codes: 0 done, 1 the work failed (the message says what to do), 2 the command itself was wrong.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.errors import BenchError
from leaderboard.errors import LeaderboardError
from pretrain.errors import PretrainError

app = App(
    name="densebench",
    help="Which pretrained backbone is best for dense prediction? Pretrain, submit, compare.",
    version_flags=["--version"],
)
data_app = App(name="data", help="Generate or check a data root (VOC, COCO, Cityscapes folders).")
app.command(data_app)

Work = Annotated[Path, Parameter(name="--work", help="Folder in which all work lives.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]
DEFAULT_WORK = Path("densebench-work")


def main() -> None:
    """Entry point of the `densebench` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Execute one command line and return its exit code."""
    errors = Console(stderr=True, soft_wrap=True)
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        errors.print(f"[red]usage:[/] {error}", highlight=False)
        errors.print("`densebench --help` lists the verbs, `densebench VERB --help` shows an example.", highlight=False)
        return 2
    except (BenchError, PretrainError, LeaderboardError) as error:
        errors.print("[red]error:[/] ", end="")
        errors.print(str(error), markup=False, highlight=False)
        return 1
    except OSError as error:
        errors.print("[red]error:[/] ", end="")
        errors.print(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        errors.print("stopped; repeat the command to continue")
        return 130
    return code if isinstance(code, int) else 0


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(*columns, title=title, title_justify="left", show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 160).print(table)


@app.command
def demo(*, work: Work = Path("demo-work"), processes: int | None = None) -> int:
    """Run the whole job on generated data: pretrain two methods, submit, fine-tune, rank. On a CPU, in minutes.

    Example: densebench demo

    Parameters
    ----------
    processes
        How many fine-tuning runs at a time (default: one a core, four at most).
    """
    from bench.demo import run_demo

    return run_demo(work, processes)


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

    from pretrain.methods import METHODS

    infos = [asdict(method.info) for method in METHODS]
    if as_json:
        return _print_json(infos)
    keys = ["id", "unit", "partner", "loss", "second_network", "negatives", "fidelity", "paper"]
    columns, rows = [k.replace("_", " ") for k in keys], [[str(info[k]) for k in keys] for info in infos]
    if markdown:
        return print(*(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(keys), *rows)), sep="\n")
    _print_table("Methods", columns, rows)


@app.command
def recipes(*, as_json: AsJson = False) -> None:
    """List the recipes: a method with data, backbone, schedule and the paper's figure.

    Example: densebench recipes
    """
    from pretrain.methods import all_recipes

    listed = all_recipes().values()
    if as_json:
        return _print_json([recipe.to_dict() for recipe in listed])
    rows = [
        [r.name, r.backbone, str(r.epochs), str(r.batch_size), r.precision, r.data, r.expected, r.cost] for r in listed
    ]
    _print_table("Recipes", ["recipe", "backbone", "epochs", "batch", "precision", "data", "expected", "cost"], rows)


@app.command
def pretrain(
    recipe: str,
    *,
    data: Path,
    data_name: str | None = None,
    out: Path | None = None,
    work: Work = DEFAULT_WORK,
    seed: int = 0,
    resume: bool = False,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    workers: int = 1,
    threads: int | None = None,
    on_damaged: Literal["error", "skip"] = "error",
    tensorboard: bool = False,
    compile_backbone: Annotated[bool, Parameter(name="--compile")] = False,
) -> None:
    """Pretrain a backbone with a recipe on a folder, list or tar shards of images; under `torchrun` on many GPUs.

    Example: densebench pretrain densecl-mini --data images/ --set epochs=50 --set optimizer.lr=0.1

    Parameters
    ----------
    recipe
        A name from `densebench recipes`.
    data
        Folder of images (searched recursively), text file with one image path a line, or tar shards: a folder of
        them or a pattern such as "train-{000..146}.tar".
    data_name
        What the card calls these images (default: the folder's name).
    out
        Run folder (default: WORK/pretraining/RECIPE-seedSEED).
    seed
        Every random draw is a function of it.
    resume
        Continue an interrupted run exactly where its last checkpoint stands.
    settings
        Change one setting of the recipe, `key.sub=value`; may be repeated.
    workers
        Data loading processes.
    threads
        CPU threads of the training process (default: all cores).
    on_damaged
        What a damaged image does: stop with its name, or be replaced by the next readable one and counted.
    tensorboard
        Also write TensorBoard files (needs `pip install densebench[tensorboard]`).
    compile_backbone
        Compile the backbone with torch.compile (needs a compiler on a CPU).
    """
    import torch

    from pretrain.images import open_images
    from pretrain.methods import all_recipes
    from pretrain.recipes import find_recipe, override
    from pretrain.train import train

    chosen = override(find_recipe(all_recipes(), recipe), settings or [])
    if threads is not None:
        torch.set_num_threads(threads)
    folder = train(
        chosen,
        open_images(data),
        out or work / "pretraining" / f"{chosen.name}-seed{seed}",
        data_name=data_name,
        seed=seed,
        resume=resume,
        workers=workers,
        on_damaged=on_damaged,
        tensorboard=tensorboard,
        compile=compile_backbone,
    )
    if os.environ.get("RANK", "0") == "0":  # torchrun starts this verb once a process
        print(f"finished: {folder}\nnext: densebench export {folder}")


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
    from pretrain.watch import watch as watch_runs

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
    from pretrain.images import open_images
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


@app.command
def inspect(checkpoint: Path, *, prefix: str | None = None, verbose: bool = False, as_json: AsJson = False) -> int:
    """Show what a checkpoint is: format, architecture, and which backbone tensors it fills. Writes nothing.

    Example: densebench inspect moco_v2_800ep_pretrain.pth.tar

    Parameters
    ----------
    checkpoint
        A .safetensors or PyTorch file, or a folder written by `export`.
    prefix
        Choose this key prefix where several backbones are inside.
    verbose
        List every tensor.
    """
    from bench.checkpoints import inspect_checkpoint

    inspection = inspect_checkpoint(checkpoint, prefix=prefix)
    if as_json:
        _print_json(inspection.to_dict())
    else:
        Console().print(inspection.render(verbose=verbose))
    return 1 if inspection.problems else 0


@app.command
def submit(
    checkpoint: str,
    *,
    name: str,
    data: Path,
    track: str = "mini",
    protocols: Annotated[list[str] | None, Parameter(name="--protocol", negative="")] = None,
    seeds: int | None = None,
    work: Work = DEFAULT_WORK,
    processes: int | None = None,
    method: str | None = None,
    licence: str | None = None,
    colour_order: Literal["RGB", "BGR"] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    prefix: str | None = None,
) -> int:
    """Import a checkpoint with proof, run the protocols of a track, and write one result file a run.

    Repeating the command continues interrupted work; no finished run is done twice.

    Example: densebench submit moco_v2_800ep_pretrain.pth.tar --name moco-v2-800ep --data data/ --seeds 3

    Parameters
    ----------
    checkpoint
        A checkpoint file, a folder written by `export`, or `random:resnet18` for random initialisation.
    name
        The submission's name on the leaderboard.
    data
        Data root with VOCdevkit/, coco/ and cityscapes/.
    track
        A list of protocols, seeds and rules.
    protocols
        Run only this protocol; may be repeated.
    seeds
        Run only the track's first seeds.
    processes
        How many runs at a time (default: one a core, four at most).
    method
        The method's name as the field writes it.
    licence
        Licence of the weights.
    colour_order
        Channel order that the checkpoint expects (default: the card's, or RGB).
    mean
        Channel means that it expects, for pixel values in [0, 1] (default: the card's, or ImageNet's).
    std
        Channel standard deviations that it expects (default: the card's, or ImageNet's).
    prefix
        Choose this key prefix where several backbones are inside.
    """
    from bench.report import RunReporter, print_submission
    from bench.submit import plan_submission
    from bench.submit import submit as execute

    plan = plan_submission(
        checkpoint,
        name=name,
        data=data,
        work=work,
        track=track,
        protocols=protocols or (),
        seeds=seeds,
        method=method,
        licence=licence,
        colour_order=colour_order,
        mean=mean,
        std=std,
        prefix=prefix,
    )
    submission = execute(plan, processes=processes, finished=RunReporter(plan))
    print_submission(submission, work)
    return 1 if submission.failures else 0


@app.command
def protocols(*, as_json: AsJson = False) -> None:
    """List the transfer protocols and the tracks that they belong to.

    Example: densebench protocols
    """
    from bench.protocols import all_protocols

    listed = all_protocols()
    if as_json:
        return _print_json([p.reference().model_dump(mode="json") for p in listed])
    rows = [[p.id, str(p.version), p.track, p.task, p.dataset, p.headline, p.sha256[:12]] for p in listed]
    _print_table("Protocols", ["protocol", "version", "track", "task", "data set", "headline", "sha256"], rows)


@data_app.command
def generate(root: Path, *, seed: int = 0) -> None:
    """Generate VOC-, COCO- and Cityscapes-format data and unlabelled images, the same bytes for the same seed.

    Example: densebench data generate demo-data

    Parameters
    ----------
    root
        The data root to create.
    """
    from bench.datasets import generate as generate_data

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("images")
        generate_data(root, seed=seed, progress=lambda done, total: bar.update(task, completed=done, total=total))
    print(f"generated: {root}\nnext: densebench data check {root}")


@data_app.command(name="check")
def check_data(
    root: Path,
    *,
    datasets: Annotated[list[str] | None, Parameter(name="--dataset", negative="")] = None,
    as_json: AsJson = False,
) -> int:
    """Check a data root: counts, label ids, sizes, boxes, missing files; prints each data set's fingerprint.

    Example: densebench data check data/ --dataset voc2012_seg

    Parameters
    ----------
    root
        Data root with VOCdevkit/, coco/ and cityscapes/.
    datasets
        Check only this data set; may be repeated.
    """
    from bench.datasets import DATASETS, check

    reports = [check(root, dataset) for dataset in datasets or DATASETS]
    if as_json:
        _print_json([report.to_dict() for report in reports])
    else:
        console = Console()
        for report in reports:
            console.print(report.render())
    return int(any(report.errors for report in reports))


@app.command
def doctor(*, data: Path | None = None, work: Work = DEFAULT_WORK, as_json: AsJson = False) -> int:
    """Say what this machine can run and what is missing: packages, operators, device, memory, disk, data.

    Example: densebench doctor --data data/

    Parameters
    ----------
    data
        Also check this data root.
    """
    from bench.doctor import diagnose

    findings = diagnose(work, data)
    if as_json:
        _print_json([finding.to_dict() for finding in findings])
    else:
        marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
        _print_table("", ["", "what", "finding"], [[marks[f.state], f.what, f.finding] for f in findings])
    return int(any(finding.state == "missing" for finding in findings))


@app.command(name="leaderboard")
def make_leaderboard(
    *,
    results: Path | None = None,
    csv: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
    site: Path | None = None,
    check: bool = False,
    work: Work = DEFAULT_WORK,
) -> int:
    """Regenerate tables and page from result files: the same bytes every time.

    Example: densebench leaderboard --results densebench-work/results --csv leaderboard.csv --site page/

    Parameters
    ----------
    results
        Folder of result files (default: WORK/results).
    csv
        Write the table as CSV.
    markdown
        Write it as Markdown.
    latex
        Write it as LaTeX.
    site
        Write the page into this folder.
    check
        Write nothing; exit with 1 if a named file differs from what the results give.
    """
    from leaderboard.build import build

    report = build(results or work / "results", csv=csv, markdown=markdown, latex=latex, site=site, check=check)
    Console().print(report.render())
    return int(bool(report.problems))
