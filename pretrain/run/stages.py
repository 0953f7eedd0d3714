"""Trains or computes the stages before the last training of a recipe of several stages.

Each stage has a folder, `<k>-<name>-<hash>`, with the hash of all its inputs: data, seed, starting weights, its
settings and those of earlier stages. A finished stage is reused, also by another run.

A training stage's folder is a run folder. That of a computing stage holds
product       the file that it computed, named so when it is whole
stage.json    its name, hash and seconds; written last
and, until that is written,
product.unfinished    what there is of the file
product.seconds       the seconds that this has taken, written where it is interrupted
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leaderboard.base.errors import FileError
from leaderboard.base.files import file_sha256, locked, make_folder, write_atomic
from leaderboard.base.terminal import Console
from pretrain.data.batches import ImageSource
from pretrain.errors import PretrainError
from pretrain.exported import serialized
from pretrain.method import Method
from pretrain.outside import outside_of
from pretrain.recipes import ComputeStage, Recipe, settings_sha256
from pretrain.run.folder import BACKBONE_PREFIX, RunRecord, read_checkpoint, read_record, tensors_under
from pretrain.run.processes import Process

PRODUCT, SECONDS, DONE, STAGES = "product", "product.seconds", "stage.json", "stages.json"


@dataclass(frozen=True)
class StageResult:
    """Result of a stage, see `leaderboard.records.Stage`."""

    name: str
    sha256: str
    """Hash of the computed file, or of the trained backbone as it is exported."""
    seconds: float
    image_views: int = 0
    """Crops of images that the stage showed to the encoder that it trains."""


@dataclass(frozen=True)
class Handed:
    """What earlier stages pass on to a training."""

    products: Mapping[str, Path] = field(default_factory=dict)
    """The files of computing stages, by the stage's name."""
    backbone: Mapping[str, Tensor] | None = None
    """Weights of the last training stage, if the training starts from them."""
    state: Mapping[str, Any] | None = None
    """The whole state of this stage, if the training continues with it (`Recipe.first_epoch`)."""


NOTHING = Handed()


def complete_stages(
    recipe: Recipe,
    run: Path,
    folder: Path,
    record: RunRecord,
    source: ImageSource,
    process: Process,
    *,
    train_stage: Callable[[Recipe, Path, Handed], Path],
    first_method: Callable[[], Method],
) -> Handed:
    """Do the unfinished stages of `recipe` in `folder`, and list all stages in the run folder `run`.

    A training stage is done by `train_stage` (recipe, folder, what earlier stages passed on). A computing stage uses
    the method of the last training stage or, if there is none, `first_method()`.

    Raises:
        PretrainError: a stage cannot be done, or its files are damaged.
    """
    if not recipe.stages:
        return NOTHING
    products: dict[str, Path] = {}
    results: list[StageResult] = []
    last: tuple[Recipe, Path] | None = None
    backbone: dict[str, Tensor] | None = None
    state: dict[str, Any] | None = None

    def handed(to: Recipe) -> Handed:
        return Handed(dict(products), backbone if to.from_stage else None, state if to.first_epoch else None)

    for (number, stage), key in zip(enumerate(recipe.stages, 1), _keys(recipe, record), strict=True):
        at = folder / f"{number}-{stage.name}-{key[:12]}"
        if process.main:
            doing = "trains" if isinstance(stage, Recipe) else "computes"
            count = len(recipe.stages) + (recipe.epochs > 0)
            Console(stderr=True, highlight=False, soft_wrap=True).print(
                f"{recipe.name}: stage {number} of {count}, {stage.name}, {doing} in {at}"
            )
        if isinstance(stage, Recipe):
            train_stage(stage, at, handed(stage))
            last = stage, at
            trained = read_record(at)
            state = read_checkpoint(at / "checkpoint.pt", trained)
            backbone = tensors_under(BACKBONE_PREFIX, state["method"])
            sha256 = hashlib.sha256(serialized(backbone)).hexdigest()
            results.append(
                StageResult(stage.name, sha256, round(state["seconds"], 3), trained.image_views(state["step"]))
            )
        else:
            made = partial(_loaded, *last) if last else first_method
            results.append(process.on_main(partial(_computed, stage, at, key, source, process, made, dict(products))))
            products[stage.name] = at / PRODUCT
    text = json.dumps([asdict(result) for result in results], indent=2) + "\n"
    process.on_main(lambda: write_atomic(run / STAGES, text))
    return handed(recipe)


def product_of(run: Path, number: int, name: str, stages: Path | None = None) -> Path | None:
    """The file that stage `number` of the run folder has computed, in `stages` (default: `run`/stages); None if it has
    not finished, or trains. Before the run lists its stages, the newest of this name.
    """
    known = json.loads((run / STAGES).read_text(encoding="utf-8")) if (run / STAGES).is_file() else []
    wanted = [stage["sha256"] for stage in known if stage["name"] == name]
    found = [
        done
        for done in (stages or run / "stages").glob(f"{number}-{name}-*/{DONE}")
        if not wanted or json.loads(done.read_text(encoding="utf-8"))["sha256"] in wanted
    ]
    return max(found, key=lambda done: done.stat().st_mtime).parent / PRODUCT if found else None


def _keys(recipe: Recipe, record: RunRecord) -> Iterator[str]:
    """For each stage the hash of everything on which it depends."""
    outside = outside_of(recipe)
    files = [record.init and record.init["sha256"], outside and outside.sha256]
    normalized = [] if recipe.epochs else [record.mean, record.std]
    key = json.dumps([record.data_fingerprint, record.seed, record.processes, *files, *normalized])
    for stage in recipe.stages:
        key = hashlib.sha256(f"{key}\n{settings_sha256(stage)}".encode()).hexdigest()
        yield key


def _loaded(recipe: Recipe, folder: Path) -> Method:
    """The method of a finished training stage, with its trained state."""
    method = recipe.method.build()
    method.load_state_dict(read_checkpoint(folder / "checkpoint.pt", read_record(folder))["method"])
    return method


def _computed(
    stage: ComputeStage,
    folder: Path,
    key: str,
    source: ImageSource,
    process: Process,
    method: Callable[[], Method],
    products: Mapping[str, Path],
) -> StageResult:
    """Compute the product of `stage` in `folder` from the method and earlier `products`, or find it there.

    If another run computes it, this one waits for it.
    """
    product, done, spent = folder / PRODUCT, folder / DONE, folder / SECONDS
    make_folder(folder)
    with locked(folder):
        if done.exists():
            result = StageResult(**json.loads(done.read_text(encoding="utf-8")))
            if not product.exists() or file_sha256(product) != result.sha256:
                raise PretrainError(f"{product} is not what stage {stage.name} left: delete {folder}")
            return result
        unfinished = folder / f"{PRODUCT}.unfinished"
        before = _seconds_in(spent) if unfinished.exists() or product.exists() else 0.0
        began = time.perf_counter() - before
        if not product.exists():  # it does where the run was killed while it took the hash
            try:
                with torch.random.fork_rng([process.device] if process.device.type == "cuda" else []), torch.no_grad():
                    torch.manual_seed(int(key[:15], 16))
                    trained = method().eval().to(process.device)
                    trained.products = products
                    stage.compute(trained, source, unfinished)
            finally:
                with suppress(FileError):  # a full disk, say, of which the error that ends the stage tells
                    write_atomic(spent, f"{time.perf_counter() - began:.3f}\n")
            if not unfinished.is_file():
                raise PretrainError(f"stage {stage.name} wrote no file {unfinished}: this is a fault of its method")
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())  # the new name says that it is whole, also after the power fails
            unfinished.replace(product)
        result = StageResult(stage.name, file_sha256(product), round(time.perf_counter() - began, 3))
        write_atomic(done, json.dumps(asdict(result), indent=2) + "\n")
        spent.unlink(missing_ok=True)
        return result


def _seconds_in(file: Path) -> float:
    """The seconds that an interrupted computation has left in `file`; 0 where it is missing or damaged."""
    try:
        seconds = float(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0
    return seconds if 0 <= seconds < inf else 0.0
