"""Commands that look into a checkpoint and evaluate it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from bench.cli.cluster import LOCAL, Cluster
from bench.cli.common import DEFAULT_WORK, EVALUATE, AsJson, Work, app, print_json, print_table
from bench.errors import BenchError
from leaderboard.base.terminal import Console


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
        checkpoint on held-out training images), heads (the pretrained segmentation head is loaded, too) or custom.
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
