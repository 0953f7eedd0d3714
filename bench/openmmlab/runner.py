"""One transfer run: protocol, checkpoint and seed in, finished run and result out.

A run that was killed continues at its last checkpoint (`bench.openmmlab.checkpoints`), or from the start where it has
none. Either way it ends with the bits of a run that was not, on a CPU with the same number of threads; on a GPU
sums have no fixed order, and it differs by what training makes of their rounding. A checkpoint that it cannot continue
(of other threads, say) and its losses get names of their own. What is kept in the run's folder:

    config.json             the protocol with every slot filled
    labelled.txt            names of the training images, where the protocol uses a share of them
    losses.csv              every loss and the learning rate, that of the head, too, where it has its own; a line an
                            iteration, written as it ends
    checkpoint.pt           of a run that takes longer than ten minutes, until its result is stored
    diverged.json           of a run whose loss was not finite: iteration, losses, paths of the batch's images
    weights.safetensors     final parameters in float16, statistics in float32

and what was found in each validation image (`bench.metrics.outputs`).
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from bench.clock import Clock
from bench.config_data import hash_config
from bench.datasets.shares import LABELLED
from bench.environment import describe_environment
from bench.errors import BenchError
from bench.heads import pretrained_head
from bench.openmmlab.build import build_model, checkpoint_part, resolve
from bench.openmmlab.checkpoints import CHECKPOINT_SECONDS, Checkpoints, run_identity
from bench.openmmlab.devices import share_statistics
from bench.openmmlab.linear import linear_metrics
from bench.openmmlab.loading_errors import plain_loading_errors
from bench.openmmlab.loss_log import LOSSES, LossLog
from bench.openmmlab.operations import count_operations
from bench.openmmlab.precise_bn import recompute_statistics
from bench.openmmlab.precision import use_bf16
from bench.openmmlab.prepare import prepare_openmmlab
from bench.openmmlab.stored_weights import WEIGHTS, load_weights, store_weights
from bench.openmmlab.trackers import Tracker, TrackerName
from bench.protocols import Protocol, TrainingPlan
from bench.record import make_result
from leaderboard.base.files import make_folder, write_atomic
from leaderboard.base.printable import printable
from leaderboard.records import Card, DatasetReference, Result, TrainingReport, result_key
from pretrain.exported import read_exported
from pretrain.run.memory import peak_memory_mib
from pretrain.run.processes import Process, process_group
from pretrain.run.stopping import StopRequest, stop_requests

if TYPE_CHECKING:
    from mmengine.runner import Runner

    from bench.openmmlab.hooks import Executed

DIVERGED = "diverged.json"
OTHER_SEEDS = 1_000_003
"""Distance between the seeds of the devices that share a run, larger than any seed of a track."""


@plain_loading_errors()
def run_transfer(
    protocol: Protocol,
    checkpoint: Path,
    data_root: Path,
    dataset: DatasetReference,
    seed: int,
    folder: Path,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    tensorboard: bool = False,
    tracker: TrackerName | None = None,
) -> Result:
    """Fine-tune `checkpoint` (folder of `backbone.safetensors` and `card.json`) under `protocol` and evaluate it once.

    The weights of the last iteration are evaluated exactly as they are stored. A loss that is not finite gives a
    result with status `failed`. The state is kept every `checkpoint_seconds`, and a run that finds in `folder` what
    this very run has kept there continues it; its times are those of all processes that have worked on it, without
    what was lost. `tensorboard` logs there, too, below `folder`, and `tracker` to that service.

    Raises:
        BenchError: the checkpoint, the data, `folder` or `tracker` is not usable, or what was built is not what card
            and protocol say.
        FileError: the disk is full. (At a checkpoint it is not raised: see `Checkpoints.write`.)
        PretrainError: TensorBoard is not installed.
        Interrupted: Ctrl-C or SIGTERM came during training; the iteration was finished and its state kept.
    """
    plan = protocol.plan
    if not isinstance(plan, TrainingPlan):
        raise BenchError(f"{protocol.id} is a probe: it trains no network")
    prepare_openmmlab()
    from bench.openmmlab.checkpoint_hook import CheckpointHook
    from bench.openmmlab.guards import check_executed
    from bench.openmmlab.hooks import DivergedError, Executed, GuardHook, ProgressHook, RecordHook
    from bench.openmmlab.painting import relabel

    clock = Clock()
    group = ExitStack()
    process = group.enter_context(process_group())  # of the devices that share this run, see `bench.openmmlab.devices`
    backbone = read_exported(checkpoint)
    card, tensors = backbone.card, dict(backbone.tensors)
    config = write_config(protocol, card, data_root, folder, seed, process.world)
    head = pretrained_head(protocol, checkpoint)
    model = build_model(config, tensors, seed, head)
    share_statistics(model)
    operations = count_operations(model, config)
    runner = make_runner(config, model, seed, folder, training=True, process=process)
    device = next(model.parameters()).device
    precision = use_bf16(model, config["bf16_modules"], device)

    environment = describe_environment(device, precision, process.world)
    loaded = None if head is None else head.sha256
    key = result_key(card.sha256, protocol.sha256, dataset.fingerprint, seed, loaded)
    identity = run_identity(hash_config(protocol.config), card, dataset, seed, environment, device.type)
    identity |= {} if loaded is None else {"head": loaded}
    exact = device.type == "cpu"
    checkpoints = Checkpoints(folder, identity, checkpoint_seconds, exact=exact, devices=process.world)
    state = checkpoints.read()
    if state is None and process.main:
        checkpoints.set_aside()
    record = Executed()
    if state is not None:
        record = Executed(**state["executed"])
        clock.add(state["seconds"], state["wall_seconds"])
    log = None
    if process.main:
        log = LossLog(
            folder / LOSSES,
            record.iterations,
            tensorboard=tensorboard,
            tracker=_tracked(tracker, protocol, card, dataset, seed, key) if tracker else None,
        )
    recorder = RecordHook(record, log, process)
    runner.register_hook(GuardHook(plan, card, tensors, record, seed, head))
    runner.register_hook(recorder)
    runner.register_hook(ProgressHook(record))
    stop = StopRequest()
    runner.register_hook(CheckpointHook(checkpoints, state, recorder, clock, seed, stop, process))
    del state  # as large as the network and its optimizer
    clock.lap("build")

    failure, metrics = None, {}
    try:
        with stop_requests(stop):
            runner.train()
        if plan.precise_bn_images:
            clock.lap("training")
            recompute_statistics(model, runner.train_loop.dataloader_iterator, plan.precise_bn_batches)
            clock.lap("precise_bn")
        if log is not None:
            log.sync()
    except DivergedError as error:
        failure = printable(f"diverged: {error}", 4000)
        if process.main:
            write_atomic(folder / DIVERGED, json.dumps({**error.values, "images": error.images}, indent=2) + "\n")
    finally:
        if log is not None:
            log.close()
    group.close()
    if not process.main:
        return None  # type: ignore[return-value]  # nobody reads it: see `on_devices`
    runner.model = model
    clock.lap("training")
    write_labelled(runner.train_dataloader.dataset, plan, folder)
    if failure is None:
        check_executed(record.iterations, record.rates, plan)
        store_weights(model, folder / WEIGHTS)
        clock.lap("store")
        metrics = {name: float(value) for name, value in runner.test().items()}
        metrics |= linear_metrics(config, model, folder)
        relabel(config, model, folder)
        clock.lap("evaluation")

    seconds = clock.seconds | {"data": record.data_seconds, "forward_backward": record.step_seconds}
    if record.checkpoint_seconds:
        seconds["checkpoints"] = record.checkpoint_seconds
    return make_result(
        protocol,
        card,
        _used(dataset, runner.train_dataloader.dataset) if plan.held_out else dataset,
        seed,
        folder if failure is None else None,
        device=device,
        precision=precision,
        devices=process.world,
        head=loaded,
        status="finished" if failure is None else "failed",
        failure=failure,
        metrics=metrics,
        training=_report(plan.iterations, model, record),
        operations=operations,
        wall_seconds=clock.total(),
        seconds={name: round(value, 3) for name, value in seconds.items() if name != "training"},
        peak_memory_mib=round(max(record.peak_memory_mib, peak_memory_mib(device)), 1),
    )


@plain_loading_errors()
def evaluate_stored(protocol: Protocol, checkpoint: Path, data_root: Path, run: Path, folder: Path) -> dict[str, float]:
    """Evaluate the final weights that `run` (a folder of :func:`run_transfer`) has stored; predictions go to `folder`.

    Raises:
        BenchError: the weights are missing, damaged or of another protocol.
    """
    prepare_openmmlab()
    backbone = read_exported(checkpoint)
    card, tensors = backbone.card, dict(backbone.tensors)
    config = write_config(protocol, card, data_root, folder)
    model = build_model(config, tensors, seed=0)  # its head is replaced with all the rest
    load_weights(model, run / WEIGHTS)
    runner = make_runner(config, model, 0, folder, training=False)
    use_bf16(model, config["bf16_modules"], next(model.parameters()).device)
    metrics = {name: float(value) for name, value in runner.test().items()}
    return metrics | linear_metrics(config, model, folder)


def write_config(
    protocol: Protocol, card: Card, data_root: Path, folder: Path, seed: int = 0, world: int = 1
) -> dict[str, Any]:
    """The resolved config, with the batch divided among `world` devices, written to `folder`, which is made."""
    config = resolve(protocol, card, data_root, world, seed)
    config["test_evaluator"]["dump"] = str(folder)
    make_folder(folder)
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")
    return config


def write_labelled(dataset: Any, plan: TrainingPlan, folder: Path) -> None:
    """The list of the training images, where these are a share of all, written to `folder`."""
    if plan.labels < 1 or plan.held_out:
        names = [name for part in getattr(dataset, "datasets", [dataset]) for name in part.taken]
        text = "".join(f"{name}\n" for name in names)
        write_atomic(folder / LABELLED, text.encode(errors="surrogateescape"))  # names of files need not be UTF-8


def _used(reference: DatasetReference, dataset: Any) -> DatasetReference:
    """The data set's record with the images that are trained on, and those that are held out of it and evaluated."""
    parts = getattr(dataset, "datasets", [dataset])
    taken, listed = sum(len(part.taken) for part in parts), sum(len(part.listed) for part in parts)
    return reference.model_copy(update={"train_images": taken, "val_images": listed - taken})


def make_runner(
    config: dict[str, Any],
    model: nn.Module,
    seed: int,
    folder: Path,
    *,
    training: bool,
    process: Process | None = None,
) -> Runner:
    """mmengine's runner around a model that is built and loaded already: quiet, without checkpoints, from `seed`.

    With `process`, one of several, it trains its part of every batch, with random draws of its own.
    """
    from mmengine.config import Config
    from mmengine.model import MMDistributedDataParallel
    from mmengine.runner import Runner, set_random_seed

    shared = process if process is not None and process.world > 1 else None

    class TransferRunner(Runner):
        def _init_model_weights(self) -> None:
            """Not again: it would draw new weights over the checkpoint's."""

        def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> Any:
            """As it is, or so that the devices' gradients are averaged."""
            if shared is None:
                return super().wrap_model(model_wrapper_cfg, model)
            # a batch may reach no mask head; the buffers are equal already
            options = {"broadcast_buffers": False, "find_unused_parameters": True}
            return MMDistributedDataParallel(module=model.to(shared.device), **options)

    names = ["test_dataloader", "test_evaluator", "test_cfg"]
    names += ["train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"] if training else []
    runner = TransferRunner(
        model=model,
        work_dir=str(folder / "mmengine"),
        **{name: Config(config)[name] for name in names},
        default_hooks={"logger": None, "checkpoint": None, "timer": None},
        default_scope=config["default_scope"],
        randomness={"seed": seed},
        log_level="WARNING",
        experiment_name=f"{config['protocol']['id']}-{time.monotonic_ns()}",
        launcher="none" if shared is None else "pytorch",
    )
    if shared is not None and shared.rank:
        set_random_seed(seed + shared.rank * OTHER_SEEDS)
    return runner


def _tracked(
    name: TrackerName, protocol: Protocol, card: Card, dataset: DatasetReference, seed: int, key: str
) -> Tracker:
    """The run at a tracker, which finds it again by its key when it is continued."""
    facts = {"checkpoint": card.name, "protocol": protocol.id, "seed": seed, "data": dataset.name, "key": key}
    return Tracker(name, f"{card.name}-{protocol.id}-seed{seed}", key, facts)


def _report(planned: int, model: Any, record: Executed) -> TrainingReport:
    """What the protocol plans and what was executed, counted on the built model and on the run."""
    parameters: list[nn.Parameter] = list(model.parameters())
    backbone = sum(p.numel() for p in checkpoint_part(model).parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    total = sum(p.numel() for p in parameters)
    return TrainingReport(
        planned_iterations=planned,
        executed_iterations=record.iterations,
        batch_size=record.images_seen // max(1, record.iterations),
        learning_rate=max(record.rates),
        images_seen=record.images_seen,
        backbone_tensors=record.backbone_tensors,
        trainable_parameters=trainable,
        frozen_parameters=total - trainable,
        head_parameters=total - backbone,
    )
