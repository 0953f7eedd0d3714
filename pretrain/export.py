"""A run to its backbone: `backbone.safetensors` and `card.json`, all that `bench` needs to know of a pretraining."""

from __future__ import annotations

import hashlib
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from leaderboard.base.files import file_sha256, make_folder, write_atomic
from leaderboard.base.validation import first_problem
from leaderboard.records import SCHEMA_VERSION, Card, InitialWeights, Pretraining, Source, group_id
from pretrain.errors import PretrainError
from pretrain.nets.backbones import VITS, build_backbone
from pretrain.run.folder import Run, RunRecord, read_checkpoint, read_record

PREFIX = "backbone."
"""Where a method keeps the network that is exported."""
HEAD_PREFIX = "decode_head."
"""Where a method keeps the segmentation head that it trains, if it does."""


def export(run: Path, out: Path | None = None, *, name: str | None = None, unfinished: bool = False) -> Path:
    """Write the backbone of the run folder `run` and its card, and return their folder (default: `run`/export).

    The tensors are float32 under torchvision's or, of a ViT, timm's names (batch norm's counters int64), sorted, so
    that equal weights give equal bytes. `name` is the submission's name in the card (default: recipe and seed). With
    `unfinished`, the newest checkpoint of a run that has not ended is exported; the card then states the epochs really
    done. A method that trains a segmentation head leaves it beside the backbone in `head.safetensors`, in the same
    form.

    Raises:
        PretrainError: `run` is no run, is not finished, or its checkpoint does not hold a complete backbone; the name
            is not a valid one.
        FileError: the folder cannot be written.
    """
    record = read_record(run)
    opened = Run(run, record)
    if not (opened.finished or unfinished):
        raise PretrainError(f"{run} is not finished: continue it with --resume, then export it")
    state = read_checkpoint(opened.checkpoint, record)
    tensors, parameters = _backbone(state["method"], record, opened.checkpoint)
    head = _checked(_under(HEAD_PREFIX, state["method"]), opened.checkpoint)
    data = save(tensors, metadata={"format": "pt"})
    card = _card(record, state["step"], name, parameters, hashlib.sha256(data).hexdigest(), opened.checkpoint)
    folder = out or run / "export"
    make_folder(folder)
    for stale in ("card.json", "head.safetensors"):  # a card never stands beside other weights than its own
        (folder / stale).unlink(missing_ok=True)
    write_atomic(folder / "backbone.safetensors", data)
    if head:
        write_atomic(folder / "head.safetensors", save(head, metadata={"format": "pt"}))
    write_atomic(folder / "card.json", card.to_json())
    return folder


def _backbone(method: dict[str, Any], record: RunRecord, checkpoint: Path) -> tuple[dict[str, Tensor], int]:
    """The backbone's tensors in order of their names, and its number of parameters; proven to fill the architecture."""
    backbone = build_backbone(record.architecture)
    try:
        backbone.load_state_dict(_under(PREFIX, method))
    except RuntimeError as error:
        raise PretrainError(f"{checkpoint} does not hold a complete {record.architecture}: {error}") from error
    return _checked(backbone.state_dict(), checkpoint), sum(p.numel() for p in backbone.parameters())


def _under(prefix: str, method: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in method.items() if key.startswith(prefix)}


def _checked(tensors: dict[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """The tensors in order of their names, contiguous and proven to be finite."""
    broken = [key for key, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise PretrainError(f"{checkpoint}: {broken[0]} holds values that are not finite: the run has diverged")
    return {key: value.contiguous() for key, value in sorted(tensors.items())}


def _card(record: RunRecord, steps: int, name: str | None, parameters: int, sha256: str, checkpoint: Path) -> Card:
    images_seen = steps * record.batch_size
    init_sha256: str | None = record.recipe["method"].get("init_sha256")
    unfinished = steps < record.planned_steps  # trained less than its recipe says: no member of the recipe's group
    try:
        return Card(
            schema_version=SCHEMA_VERSION,
            name=name or f"{record.recipe['name']}-seed{record.seed}",
            method=record.method,
            architecture=record.architecture,
            stem="16x16" if record.architecture in VITS else "7x7",
            norm="LN" if record.architecture in VITS else "BN",
            stride_style="none" if record.architecture in VITS else "pytorch",
            color_order="RGB",
            mean=tuple(record.mean),  # type: ignore[arg-type]
            std=tuple(record.std),  # type: ignore[arg-type]
            parameters=parameters,
            sha256=sha256,
            pretraining=Pretraining(
                recipe=_recipe(record),
                recipe_sha256=record.recipe_sha256,
                group=None if unfinished else group_id(record.recipe_sha256, record.data_fingerprint, init_sha256),
                data=record.data_name,
                data_fingerprint=record.data_fingerprint,
                images=record.images,
                epochs=round(steps / record.steps_per_epoch, 4),
                effective_batch=record.batch_size,
                crops=_crops(record.views),
                image_views=images_seen * len(record.views),
                resolution=max(view["size"] for view in record.views),
                seed=record.seed,
                labels="none",
                init=None if init_sha256 is None else InitialWeights(name=_init_name(record), sha256=init_sha256),
                stages=(),
            ),
            source=Source(
                format="densebench run", file=checkpoint.name, sha256=file_sha256(checkpoint), key_prefix=PREFIX
            ),
            license=None,
            code_commit=record.code_commit,
        )
    except ValidationError as error:
        raise PretrainError(f"the card of {checkpoint.parent} is not valid: {first_problem(error)}") from error


def _recipe(record: RunRecord) -> str:
    """Its name and the hash of its settings, and of the backbone that it started from where it did."""
    settings = f"settings {record.recipe_sha256[:12]}"
    start = record.recipe["method"].get("init_sha256")
    return f"{record.recipe['name']} ({settings}{f', from backbone {start[:12]}' if start else ''})"


def _init_name(record: RunRecord) -> str:
    """The folder from which the run took its starting weights."""
    return Path(record.recipe["method"]["init_from"]).name or "backbone"


def _crops(views: list[dict[str, Any]]) -> str:
    """In the field's shorthand, e.g. `2x224 (area 0.2-1)`."""
    keys = [(view["size"], *view["scale"]) for view in views]
    return " + ".join(f"{len(list(same))}x{size} (area {low:g}-{high:g})" for (size, low, high), same in groupby(keys))
