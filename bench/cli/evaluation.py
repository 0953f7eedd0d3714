"""Commands of evaluation: the demo, checkpoints, data, and what is missing to run them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.progress import Progress

from bench.cli.cluster import LOCAL, Cluster
from bench.cli.common import DEFAULT_WORK, EVALUATE, TOOLS, AsJson, Work, app, data_app, print_json, print_table
from bench.errors import BenchError
from leaderboard.base.terminal import Console


@app.command(group=TOOLS)
def demo(*, work: Work = Path("demo-work"), processes: int | None = None) -> int:
    """Run the whole job on generated data: pretrain two methods, submit, fine-tune, rank. On a CPU, in minutes.

    Example: densebench demo

    Parameters
    ----------
    processes
        How many fine-tuning runs at a time (default: one per GPU; on a CPU one per core, at most 4).
    """
    from bench.demo import run_demo

    return run_demo(work, processes)


@app.command(group=EVALUATE)
def inspect(
    checkpoint: Path,
    *,
    prefix: str | None = None,
    architecture: str | None = None,
    verbose: bool = False,
    probe: bool = False,
    as_json: AsJson = False,
) -> int:
    """Show what a checkpoint is: format, architecture, and which backbone tensors it fills. Writes nothing.

    Example: densebench inspect moco_v2_800ep_pretrain.pth.tar

    Parameters
    ----------
    checkpoint
        A file (safetensors, PyTorch, numpy), a folder with one (of the Hugging Face hub, written by `export`), or the
        index of a checkpoint in shards.
    prefix
        Choose this key prefix where several backbones are inside.
    architecture
        Name of the network, where the tensors leave a choice: `vit_small_patch16_heads12`, or a name of timm.
    verbose
        List every tensor.
    probe
        Compare the network with random initialization on generated textures, and with itself under other
        normalizations: does it behave like a trained one? Within a minute; it advises and changes nothing.
    """
    from bench.checkpoints.inspection import read_backbone
    from bench.checkpoints.rendering import render

    inspection, tensors = read_backbone(checkpoint, prefix=prefix, architecture=architecture)
    sanity = None
    if probe and not inspection.problems:
        from bench.checkpoints.sanity import check_sanity

        sanity = check_sanity(inspection, tensors)
    if as_json:
        print_json(inspection.to_dict() | ({"probe": asdict(sanity)} if sanity else {}))
    else:
        Console().print(render(inspection, verbose=verbose))
        if sanity:
            Console(soft_wrap=True).print(f"probe: {sanity.verdict}", markup=False)
    return 1 if inspection.problems else 0


@app.command(group=EVALUATE)
def submit(
    checkpoint: str,
    *,
    name: str,
    data: Path,
    track: str = "mini",
    protocols: Annotated[list[str] | None, Parameter(name="--protocol")] = None,
    seeds: int | None = None,
    batch: int | None = None,
    work: Work = DEFAULT_WORK,
    processes: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    devices_per_run: int = 1,
    method: str | None = None,
    license: str | None = None,
    color_order: Literal["RGB", "BGR"] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    rehearse: bool = False,
    checkpoint_minutes: float = 10.0,
    tensorboard: bool = False,
    tracker: Literal["wandb", "trackio"] | None = None,
    cluster: Cluster = LOCAL,
) -> int:
    """Import a checkpoint with proof, run the protocols of a track, and write one result file per run.

    Repeating the command continues interrupted work, a long fine-tuning at its last checkpoint; no finished run is done
    twice.

    Example: densebench submit moco_v2_800ep_pretrain.pth.tar --name moco-v2-800ep --data data/ --seeds 3

    Parameters
    ----------
    checkpoint
        A checkpoint file, a folder written by `export`, or random initialisation: `random:ARCHITECTURE`, several
        networks (NAME, NAME-seed1, ...), with each seed of the track another, or `random:ARCHITECTURE:SEED`, this one.
    name
        The submission's name on the leaderboard.
    data
        Data root with VOCdevkit/, coco/ and cityscapes/; for track custom, data of your own that `densebench data
        describe` has described.
    track
        A list of protocols, seeds and rules: mini, frozen, paper, fair (paper, with the learning rate chosen for each
        checkpoint on held-out training images) or custom.
    protocols
        Run only this protocol; may be repeated. A path (`./my_protocol.py`) is a protocol of your own: its code is
        executed, its id and track are not ours.
    seeds
        Run only the track's first seeds.
    batch
        Fine-tune with at most so many images per iteration, for a GPU that is too small: the learning rate falls with
        it, the schedule becomes longer (the linear rule). Results are marked with their batch and stand in a table of
        their own.
    processes
        How many runs at a time (default: one per GPU; on a CPU one per core, at most 4).
    threads
        CPU threads of each run (default: its share of the cores).
    device
        cuda, cuda:N or cpu (default: all GPUs that there are, else the CPU).
    devices_per_run
        GPUs that share each fine-tuning (with --device cpu: processes), each with an equal part of the batch.
    method
        The method's name as the field writes it.
    license
        License of the weights: an SPDX identifier where there is one.
    color_order
        Channel order that the checkpoint expects (default: the card's, or RGB).
    mean
        Channel means that it expects, for pixel values in [0, 1] (default: the card's, or ImageNet's).
    std
        Channel standard deviations that it expects (default: the card's, or ImageNet's).
    prefix
        Choose this key prefix where several backbones are inside.
    architecture
        Name of the network, where the tensors leave a choice: `vit_small_patch16_heads12`, or a name of timm.
    rehearse
        Execute a few iterations of every protocol, say what all would take (time, memory, disk) and which data are
        missing, and store no result.
    checkpoint_minutes
        Time between two checkpoints of a fine-tuning; a shorter one writes none.
    tensorboard
        Also write losses and learning rates for TensorBoard, below WORK/transfers.
    tracker
        Also send them to Weights & Biases or trackio, project `densebench` (needs `pip install wandb` or `trackio`).
    """
    from bench.gpus import check_device
    from bench.jobs import evaluate
    from bench.openmmlab.trackers import require_tracker
    from bench.report import RunReporter, print_submission
    from bench.submit import plan_submission
    from bench.submit import submit as execute
    from pretrain.run.log import require_tensorboard

    card_fields: dict[str, Any] = {
        "method": method,
        "license": license,
        "color_order": color_order,
        "mean": mean,
        "std": std,
        "prefix": prefix,
        "architecture": architecture,
    }
    check_device(device)
    if threads is not None and threads < 1:
        raise BenchError(f"--threads is {threads}: give 1 or more")
    if devices_per_run < 1:
        raise BenchError(f"--devices-per-run is {devices_per_run}: give 1 or more")
    where: dict[str, Any] = {"processes": processes, "threads": threads, "device": device}
    executor = cluster.choose(work, devices=devices_per_run, **where)
    if rehearse:
        if cluster != LOCAL or devices_per_run > 1:
            raise BenchError("--rehearse times one device of this machine: leave --executor and --devices-per-run out")
        return _rehearse(checkpoint, track, protocols or (), seeds, batch, name, data, work, where | card_fields)
    if not 0 < checkpoint_minutes < math.inf:
        raise BenchError(f"--checkpoint-minutes is {checkpoint_minutes:g}: give a number above 0")
    if tensorboard:
        require_tensorboard()
    if tracker:
        require_tracker(tracker)
    plan = plan_submission(
        checkpoint,
        name=name,
        data=data,
        work=work,
        track=track,
        protocols=protocols or (),
        seeds=seeds,
        batch=batch,
        **card_fields,
    )
    one = functools.partial(
        evaluate,
        devices=devices_per_run,
        checkpoint_seconds=60 * checkpoint_minutes,
        tensorboard=tensorboard,
        tracker=tracker,
    )
    submission = execute(plan, executor=executor, finished=RunReporter(plan), execute=one)
    print_submission(submission, work)
    return 1 if submission.failures or submission.unusable else 0


def _rehearse(
    checkpoint: str,
    track: str,
    names: Sequence[str],
    seeds: int | None,
    batch: int | None,
    name: str,
    data: Path,
    work: Path,
    options: dict[str, Any],
) -> int:
    from bench.rehearsal import missing_data, rehearse
    from bench.report import REHEARSAL_COLUMNS, print_missing_data, rehearsal_lines, rehearsal_rows
    from bench.submit import choose_protocols

    chosen, seed_list = choose_protocols(track, names, seeds, batch, data=data)
    usable, missing = missing_data(data, chosen)
    print_missing_data(missing, chosen)
    if not usable:
        return 1
    found = rehearse(checkpoint, chosen, usable, seed_list, name=name, data=data, work=work, **options)
    print_table("", REHEARSAL_COLUMNS, rehearsal_rows(found))
    for line in rehearsal_lines(found):
        Console(soft_wrap=True, highlight=False).print(line, markup=False)
    return int(bool(missing or found.problems or not all(one.fits for one in found.rehearsed)))


@data_app.command
def generate(root: Path, *, seed: int = 0, paper: bool = False) -> None:
    """Generate VOC-, COCO- and Cityscapes-format data and unlabelled images, the same bytes for the same seed.

    Other versions of OpenCV draw slightly different pixels, so that the data have another fingerprint.

    Example: densebench data generate demo-data

    Parameters
    ----------
    root
        The data root to create.
    paper
        Also what track paper needs beside: VOC 2007, masks like SBD's.
    """
    from bench.datasets import generate as generate_data

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("images")
        show = functools.partial(bar.update, task)
        generate_data(root, seed=seed, paper=paper, progress=lambda done, total: show(completed=done, total=total))
    print(f"generated: {root}\nnext: densebench data check {root}")


@data_app.command(name="check")
def check_data(
    root: Path,
    *,
    datasets: Annotated[list[str] | None, Parameter(name="--dataset")] = None,
    as_json: AsJson = False,
) -> int:
    """Check a data root: counts, label ids, sizes, boxes, missing files; prints each data set's fingerprint.

    Below the data root:

    * voc2012_det: `VOCdevkit/VOC2012` with `JPEGImages/*.jpg`, `Annotations/*.xml` and
      `ImageSets/Main/{train,val}.txt`

    * voc2012_seg: `VOCdevkit/VOC2012` with `JPEGImages/*.jpg`, `SegmentationClass/*.png` and
      `ImageSets/Segmentation/{train,val}.txt`

    * coco2017: `coco` with `train2017/*.jpg`, `val2017/*.jpg` and `annotations/instances_{train,val}2017.json`

    * cityscapes: `cityscapes` with `leftImg8bit/{train,val}/CITY/*_leftImg8bit.png` (or .jpg) and
      `gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png`

    What track paper, videos and discovered objects need beyond, checked where its folder is there:

    * voc0712_det: as voc2012_det, with `VOCdevkit/VOC2007` and `VOCdevkit/VOC2012` and their
      `ImageSets/Main/trainval.txt`; evaluated is `ImageSets/Main/test.txt` of VOC2007

    * voc2012aug_seg: as voc2012_seg, with `SegmentationClassAug/*.png` (SBD's masks, which `densebench data
      prepare` makes) and `ImageSets/Segmentation/{train,trainaug,val}.txt`

    * cityscapes_inst: as cityscapes, with `gtFine/{train,val}/CITY/*_gtFine_instanceIds.png`

    * ade20k: `ADEChallengeData2016` with `images/{training,validation}/*.jpg` and
      `annotations/{training,validation}/*.png`

    * lvis: `lvis/lvis_v1_{train,val}.json`, and `coco` with `train2017/*.jpg` and `val2017/*.jpg`

    * davis2016, davis2017: `DAVIS` with `JPEGImages/480p/VIDEO/*.jpg` and `Annotations/480p/VIDEO/*.png`;
      `ImageSets/YEAR/val.txt` lists the videos of val

    * vip: `VIP` with `VIP_Fine/Images/VIDEO/*.jpg` and `VIP_Fine/Annotations/Category_ids/VIDEO/*.png`;
      `VIP_Fine/lists/val_videos.txt` lists the videos of val

    * jhmdb: `JHMDB` with `Rename_Images/CLASS/CLIP/*.png`, `joint_positions/CLASS/CLIP/joint_positions.mat` and
      `splits/CLASS_test_split1.txt`

    * voc2012_maskdistill, coco2017_maskdistill: `maskdistill/voc2012.npy` and `maskdistill/coco2017.npy`, the tables of
      maskdistill's stage labels, beside the images of voc2012_seg and of coco2017

    What else `densebench data prepare` sets up is checked where it is named, such as `--dataset cub200`.

    Data of your own are checked by their description, which `densebench data describe` writes.

    Example: densebench data check data/ --dataset voc2012_seg

    Parameters
    ----------
    root
        Data root with VOCdevkit/, coco/ and cityscapes/; or data of your own: the folder with the description, or the
        description.
    datasets
        Check only this data set; may be repeated.
    """
    from bench.datasets import check, expected_in
    from bench.datasets.own.check import check_own
    from bench.datasets.own.description import is_own

    if is_own(root) and not datasets:
        reports = [check_own(root)]
    else:
        reports = [check(root, dataset) for dataset in datasets or expected_in(root)]
    if as_json:
        print_json([report.to_dict() for report in reports])
    else:
        console = Console()
        for report in reports:
            report.print(console)
    return int(any(report.errors for report in reports))


@app.command(group=TOOLS)
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
        print_json([finding.to_dict() for finding in findings])
    else:
        marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
        print_table("", ["", "what", "finding"], [[marks[f.state], f.what, f.finding] for f in findings])
        for finding in findings:
            if finding.command:
                print(f"\n{finding.what}:\n{finding.command}")
    return int(any(finding.state == "missing" for finding in findings))
