"""Exports the backbone of a run: the newest checkpoint's network, its card, and the curves of the training."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from leaderboard.base.files import file_sha256, write_atomic
from leaderboard.records import InitialWeights, Pretraining, Source, Stage, group_id
from leaderboard.records.extras import CURVES
from pretrain.errors import PretrainError
from pretrain.exported import write_exported
from pretrain.former_hashes import present_hash
from pretrain.run.curves import training_curves
from pretrain.run.folder import (
    BACKBONE_PREFIX,
    RunFolder,
    RunRecord,
    read_checkpoint,
    read_cost,
    read_record,
    tensors_under,
)
from pretrain.run.naming import as_line

HEAD_PREFIX = "decode_head."
"""Prefix of the tensors of a segmentation head, in methods that train one."""


def export(run: Path, out: Path | None = None, *, name: str | None = None, unfinished: bool = False) -> Path:
    """Write the backbone of the run folder `run` and its card, and return their folder (default: `run`/export).

    Beside them are the run's losses and probes (`curves.json`), from which the leaderboard's page draws.

    `name` is the submission's name in the card (default: recipe and seed). With `unfinished`, the newest checkpoint of
    a run that has not ended is exported; the card then states the epochs that were finished. The segmentation head of a
    method that trains one is exported next to the backbone.

    Raises:
        PretrainError: `run` is not a run or not finished, its checkpoint does not hold a complete backbone, its log is
            damaged, or the name is not valid.
        FileError: the folder cannot be written.
    """
    if run.is_file():
        raise PretrainError(
            f"{run} is a file: give the folder of a pretraining run (with --format also a folder in WORK/checkpoints, "
            "into which `densebench submit` imports a file)"
        )
    record = read_record(run)
    opened = RunFolder(run, record)
    if not record.planned_steps:
        raise PretrainError(f"{run} has trained nothing: its result is what its stages have computed")
    if not (opened.finished or unfinished):
        raise PretrainError(f"{run} is not finished: continue it with --resume, then export it")
    state = read_checkpoint(opened.checkpoint, record)
    folder = out or run / "export"
    card = write_exported(
        folder,
        tensors_under(BACKBONE_PREFIX, state["method"]),
        _facts(record, state["step"], name, opened.checkpoint, _stages(run, record)),
        head=tensors_under(HEAD_PREFIX, state["method"]),
        where=opened.checkpoint,
    )
    write_atomic(folder / CURVES, training_curves(run, card.sha256).to_json())
    return folder


def _stages(run: Path, record: RunRecord) -> tuple[Stage, ...]:
    """The stages before the last training."""
    if not record.recipe.get("stages"):
        return ()
    try:
        return tuple(Stage(**stage) for stage in json.loads((run / "stages.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise PretrainError(f"{run / 'stages.json'} cannot be read: {error}") from error


def _facts(
    record: RunRecord, steps: int, name: str | None, checkpoint: Path, stages: tuple[Stage, ...]
) -> dict[str, Any]:
    """The fields of the card that do not follow from the weights."""
    init = None if record.init is None else InitialWeights(name=record.init["name"], sha256=record.init["sha256"])
    start = None if init is None else init.sha256
    recipe_sha256 = present_hash(record.recipe_sha256)
    unfinished = steps < record.planned_steps  # trained less than its recipe says: not in the recipe's group
    return {
        "name": name or f"{record.recipe['name']}-seed{record.seed}",
        "method": record.method,
        "architecture": record.architecture,
        "color_order": "RGB",
        "mean": tuple(record.mean),
        "std": tuple(record.std),
        "pretraining": Pretraining(
            recipe=_recipe(record),
            recipe_sha256=recipe_sha256,
            group=None if unfinished else group_id(recipe_sha256, record.data_fingerprint, start),
            data=as_line(record.data_name),  # an earlier version wrote any folder's name
            data_fingerprint=record.data_fingerprint,
            images=record.images,
            epochs=round(steps / record.steps_per_epoch, 4) + record.recipe.get("first_epoch", 0),
            effective_batch=record.batch_size,
            crops=_crops(record.views),
            image_views=record.image_views(steps) + sum(stage.image_views for stage in stages),
            resolution=max(view["size"] for view in record.views),
            seed=record.seed,
            labels=record.labels,
            init=init,
            stages=stages,
            cost=None if unfinished else read_cost(checkpoint.parent, record),
            copies=None,
        ),
        "source": Source(
            format="densebench run", file=checkpoint.name, sha256=file_sha256(checkpoint), key_prefix=BACKBONE_PREFIX
        ),
        "license": None,
        "code_commit": record.code_commit,
    }


def _recipe(record: RunRecord) -> str:
    """Name and hash of the recipe, the file of a user's own method, and the hash of the starting backbone."""
    settings = f"settings {present_hash(record.recipe_sha256)[:12]}"
    start = f", from backbone {record.init['sha256'][:12]}" if record.init else ""
    file = record.method_file
    outside = f", file {file['name']} {file['sha256'][:12]}" if file else ""
    return as_line(f"{record.recipe['name']} ({settings}{outside}{start})")


def _crops(views: list[dict[str, Any]]) -> str:
    """The crops in the usual short form, e.g. `2x224 (area 0.2-1)`."""
    keys = [(view["size"], *view["scale"]) for view in views]
    return " + ".join(f"{len(list(same))}x{size} (area {low:g}-{high:g})" for (size, low, high), same in groupby(keys))
