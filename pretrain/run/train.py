"""The training loop, which makes a finished run folder from images and a recipe.

Under `torchrun` every process takes its share of each batch. Randomness is a function of (seed, step), never a state:
a run that was killed at any moment and resumed ends with the same weights as one that was not, bit for bit on a CPU
with the same number of threads.
"""

from __future__ import annotations

import copy
import hashlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from leaderboard.base.provenance import code_commit
from pretrain.data.batches import ImageSource, Loading, OnDamaged, steps_per_epoch
from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.exported import ExportedBackbone
from pretrain.method import Method
from pretrain.outside import identity, outside_of
from pretrain.parts.losses import effective_rank
from pretrain.recipes import Recipe
from pretrain.run.acceleration import PLAIN, Acceleration, compile_backbones
from pretrain.run.device_gaps import DeviceGaps
from pretrain.run.feed import feed
from pretrain.run.folder import Progress, RunFolder, RunRecord
from pretrain.run.log import Interval, RunLog, require_tensorboard
from pretrain.run.naming import as_line, require_line
from pretrain.run.probing import ProbeLog, Probing
from pretrain.run.processes import Process, process_group
from pretrain.run.recompute import recompute_activations
from pretrain.run.stages import NOTHING, Handed, complete_stages
from pretrain.run.start import other_normalisation, read_start
from pretrain.run.stopping import stop_requests


def train(
    recipe: Recipe,
    source: ImageSource,
    out: Path,
    *,
    data_name: str | None = None,
    seed: int = 0,
    init: Path | Callable[[], Path] | None = None,
    stages: Path | None = None,
    before: Handed = NOTHING,
    resume: bool = False,
    device: str | None = None,
    workers: int | Literal["auto"] = "auto",
    on_damaged: OnDamaged = "error",
    tensorboard: bool = False,
    acceleration: Acceleration = PLAIN,
    probing: Probing | None = None,
    log_every: int = 10,
    checkpoint_seconds: float = 120.0,
) -> Path:
    """Pretrain `recipe` on `source` and return the run folder `out` (its files: see `pretrain.run.folder`).

    `seed` determines every random draw. `init` is a folder with an exported backbone from which to start instead of
    random weights, or a function that makes one (called by the first process alone). `stages` is the folder for the
    stages of a recipe that has several (default: `out`/stages); runs with the same folder share equal stages (see
    `pretrain.run.stages`). `before` is what earlier stages have passed on, if this training is a stage itself.
    `workers` is the number of loading processes of each training process (`pretrain.run.processes.loader_workers`) and
    does not change results. `probing` measures the backbone of the last training regularly (`pretrain.run.probing`) and
    does not change results either. Every `log_every` steps a line is logged, and the checkpoint is replaced if it is
    older than `checkpoint_seconds`. A folder with the finished run of the same recipe, data and seed is returned
    unchanged. After Ctrl-C or SIGTERM the checkpoint is replaced at the end of the step (with several processes, at the
    end of the next step that is logged).

    Raises:
        Interrupted: the run was stopped by a signal; its text says how to continue.
        PretrainError: `init` cannot be read or does not fit, or the recipe needs one; the folder holds another run, or
            an unfinished one without `resume`, or cannot be written; the batch does not fit the data or the processes;
            a loss or its gradient is not finite; an image is damaged; `data_name` cannot stand in a card.
    """
    if tensorboard:
        require_tensorboard()
    with ExitStack() as stack:
        process = stack.enter_context(process_group(device))
        stack.enter_context(torch.random.fork_rng([process.device] if process.device.type == "cuda" else []))
        stack.enter_context(acceleration.applied(process.device))
        folder = process.on_main(init) if callable(init) else init
        start = read_start(folder, recipe)
        torch.manual_seed(seed)
        method = recipe.method.build().train()
        if start is not None:
            method.start_from(start.tensors)
            if not method.trains:  # a network that stays as it is sees images as it was trained on
                method.plan = replace(method.plan, mean=start.card.mean, std=start.card.std)
        record = process.on_main(lambda: _record(recipe, source, data_name, method, seed, start, process))
        run = RunFolder(out, record)
        stack.callback(run.release)
        if not process.on_main(lambda: run.claim(resume=resume)):
            return out

        completed = complete_stages(
            recipe,
            out,
            stages or out / "stages",
            record,
            source,
            process,
            train_stage=lambda stage, at, handed: train(
                stage,
                source,
                at,
                data_name=data_name,
                seed=seed,
                init=None if stage.from_stage else folder,
                before=handed,
                resume=True,
                device=str(process.device),
                workers=workers,
                on_damaged=on_damaged,
                tensorboard=tensorboard,
                acceleration=acceleration,
                log_every=log_every,
                checkpoint_seconds=checkpoint_seconds,
            ),
            first_method=lambda: copy.deepcopy(method),
        )
        if not recipe.stages:
            completed = before
        if completed.backbone is not None:
            method.start_from(completed.backbone)
        elif recipe.from_stage:
            raise PretrainError(f"recipe {recipe.name} starts from a stage before it: run the recipe that lists it")
        method.products = completed.products
        if not recipe.epochs:
            process.on_main(lambda: run.finish(Progress(), process.device))
            return out
        method.to(process.device).to(memory_format=torch.channels_last)
        process.on_main(lambda: method.prepare(source, out))
        if not process.main:
            method.prepare(source, out)
        optimizer = recipe.optimizer.build((n, p) for n, p in method.named_parameters() if p.requires_grad)
        if completed.state is not None:
            _go_on(recipe, method, optimizer, completed.state)
        progress = run.load(method, optimizer)
        step, total = progress.step, record.planned_steps
        if acceleration.recompute:
            recompute_activations(method, method.backbone)
        model = _parallel(method, process, acceleration.compile)
        log = stack.enter_context(
            RunLog(run.log, process, title=recipe.name, first_step=step, planned_steps=total, tensorboard=tensorboard)
        )
        if start is not None and (note := other_normalisation(start, method.plan)) is not None:
            log.note(note)
        views_of_steps = feed(
            source,
            method.plan,
            Loading(
                batch_size=recipe.batch_size // process.world,
                seed=seed,
                rank=process.rank,
                world=process.world,
                workers=process.loader_workers() if workers == "auto" else workers,
                pin=process.device.type == "cuda",
                on_damaged=on_damaged,
            ),
            process.device,
            epochs=recipe.epochs,
            first_step=step,
            first_epoch=recipe.first_epoch,
            prefetch=acceleration.prefetch,
        )
        probes = ProbeLog(probing, out, record, process)
        probes.after(step, method, log)
        stop = stack.enter_context(stop_requests())
        stack.enter_context(stop.while_loading(out))
        opened = saved = time.perf_counter()
        interval, gaps = Interval(process, batch_size=recipe.batch_size, step=step), DeviceGaps(process.device)
        for views, waited in views_of_steps:
            gaps.step_begins()
            scalars, rate = take_step(
                model, method, optimizer, recipe, views, seed=seed, step=step, steps_per_epoch=record.steps_per_epoch
            )
            gaps.step_ends()
            step += 1
            interval.add(scalars, waited)
            if spent := probes.after(step, method, log):
                opened += spent
                interval.leave_out(spent)
                gaps = DeviceGaps(process.device)

            at_line = step % log_every == 0 or step == total
            stopping = process.any(bool(stop)) if at_line else process.world == 1 and bool(stop)
            if at_line or stopping:
                rank = {} if method.embeddings is None else {"rank": effective_rank(method.embeddings.detach())}
                measured = interval.close(**rank)  # raises if a step was not finite, so that no checkpoint follows it
                if (between := gaps.close()) is not None:
                    measured["gpu_between_steps"] = round(between, 4)
                now = time.perf_counter()
                reached = Progress(step, progress.seconds + now - opened)
                log.write(
                    {
                        "step": step,
                        "epoch": round(step / record.steps_per_epoch, 4),
                        "lr": rate,
                        **measured,
                        "seconds": round(reached.seconds, 3),
                        "eta_seconds": round((now - opened) / (step - progress.step) * (total - step), 3),
                    }
                )
                if stopping and step < total:
                    process.on_main(partial(run.save, reached, method, optimizer))
                    raise stop.interrupted(f"after step {step} of {total}, which is saved in {out}")
                if process.main and (step == total or now - saved >= checkpoint_seconds):
                    run.save(reached, method, optimizer)
                    saved = time.perf_counter()
        spent = progress.seconds + time.perf_counter() - opened
        process.on_main(lambda: run.finish(Progress(step, spent), process.device))
    return out


def take_step(
    model: nn.Module,
    method: Method,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    views: Sequence[View],
    *,
    seed: int,
    step: int,
    steps_per_epoch: int,
) -> tuple[dict[str, Tensor], float]:
    """Take one optimizer step on a batch of views, after `step` finished ones; return scalars and learning rate.

    In addition to the method's own scalars, `grad_norm` is the Euclidean norm of the whole gradient before clipping.
    `model` is `method`, or wraps it for several processes.
    """
    total = steps_per_epoch * recipe.epochs
    since_start = step + recipe.first_epoch * steps_per_epoch
    torch.manual_seed(_step_seed(seed, since_start))
    factor = recipe.schedule.factor(since_start, steps_per_epoch, recipe.first_epoch + recipe.epochs)
    rate = recipe.optimizer.set_step(optimizer, factor, step / total)
    with torch.autocast(views[0].pixels.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        try:
            scalars: dict[str, Tensor] = model(views)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise PretrainError(
                "batch norm needs two values of each channel in every part of a batch: raise batch_size, or lower "
                "method.bn_splits if the method has it"
            ) from error
    optimizer.zero_grad(set_to_none=True)
    scalars["loss"].backward()  # type: ignore[no-untyped-call]
    method.before_update(step + 1, total)
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    recipe.optimizer.clip(optimizer)
    optimizer.step()
    method.after_step(step + 1, total)
    return {**scalars, "grad_norm": norm}, rate


def _go_on(recipe: Recipe, method: Method, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Fill `method` and `optimizer` with the whole state of the preceding stage."""
    try:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise PretrainError(
            f"recipe {recipe.name} goes on with the networks of the stage before it, which are others: "
            "give both methods the same settings"
        ) from error


def _record(
    recipe: Recipe,
    source: ImageSource,
    data_name: str | None,
    method: Method,
    seed: int,
    start: ExportedBackbone | None,
    process: Process,
) -> RunRecord:
    """Everything on which the run depends.

    Raises:
        PretrainError: the batch does not fit the data or the number of processes, or `data_name` fits no card.
    """
    if data_name:
        require_line("the name of the data", data_name)
    if recipe.batch_size % process.world:
        raise PretrainError(
            f"a batch of {recipe.batch_size} images cannot be shared by {process.world} processes equally"
        )
    per_epoch = steps_per_epoch(len(source), recipe.batch_size)
    outside = outside_of(recipe)
    return RunRecord(
        recipe=recipe.to_dict(),
        recipe_sha256=identity(recipe),
        seed=seed,
        processes=process.world,
        data_name=data_name or as_line(source.root.resolve().name),
        data_fingerprint=source.fingerprint(),
        images=len(source),
        batch_size=recipe.batch_size,
        steps_per_epoch=per_epoch,
        planned_steps=per_epoch * recipe.epochs,
        method=method.info.name,
        architecture=recipe.backbone,
        views=[
            {"name": spec.name, "size": spec.size, "scale": list(spec.scale), "ratio": list(spec.ratio)}
            for spec in method.plan.specs
            if spec.trained
        ],
        mean=list(method.plan.mean),
        std=list(method.plan.std),
        code_commit=code_commit(),
        method_file=None if outside is None else {"name": outside.name, "sha256": outside.sha256},
        init=None if start is None else {"name": start.card.name, "sha256": start.card.sha256},
        labels=method.labels,
    )


def _parallel(method: Method, process: Process, compile: bool) -> nn.Module:
    """The module that the loop calls."""
    if compile:
        compile_backbones(method, method.backbone)
    if process.world == 1:
        return method
    # Each rank keeps its own buffers: queues are equal by construction, batch norm statistics local as in the papers.
    with warnings.catch_warnings():
        # PyTorch 2.15 announces another name for `broadcast_buffers`, which the earlier versions do not know.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(method, broadcast_buffers=False, gradient_as_bucket_view=True)


def _step_seed(seed: int, step: int) -> int:
    """Seed of PyTorch's generators for one step, the same on all ranks."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}".encode()).digest()[:8], "big")
