"""Protocols as versioned, hashed data: one config file each, built in (`transfer_configs/`) or the user's own.

Reading protocols imports neither torch nor the OpenMMLab libraries. Values that depend on the checkpoint or on the run
are slots such as `"card:depth"` or `"run:seed"` (`bench.openmmlab.build` fills them), so that the hash depends on the
protocol alone.

Security: a protocol file is code, and reading it executes it (`bench.config_data`). Read an untrusted file before you
use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from types import MappingProxyType
from typing import Any

import transfer_configs
from bench.config_data import PROSE, copy_data, hash_config, read_config
from bench.errors import BenchError
from bench.probes.plans import ProbePlan, read_probe_plan
from bench.smaller_batch import describe, split_id, with_smaller_batch
from bench.sweep_config import SweepPlan, as_trial, describe_trial, read_sweep, split_trial
from bench.tracks import FROZEN, TRACKS
from leaderboard.records import ProtocolReference
from pretrain.suggestions import did_you_mean

CONFIGS = Path(transfer_configs.__path__[0])
ENTRY_POINTS = "densebench.protocols"
"""Group of entry points by which an installed package offers protocols: `ID = "package.module"` where the module's
file is the protocol, or `ID = "package.module:NAME"` where NAME holds the file's path."""

HEADER = ("id", "version", "track", "task", "dataset", "headline")
"""Keys of `protocol = dict(...)` for tables, in addition to the plan and `PROSE`."""
_SECTIONS = (
    "default_scope", "model", "bf16_modules", "train_dataloader", "test_dataloader", "test_evaluator", "train_cfg",
    "test_cfg", "optim_wrapper", "param_scheduler",
)  # fmt: skip
"""Names that the runner reads from a protocol for fine-tuning."""


@dataclass(frozen=True)
class TrainingPlan:
    """The values that a run of the protocol must have; the guards compare the built model and the run with them."""

    batch_size: int
    """Images per iteration, over all processes."""
    iterations: int
    learning_rate: float
    """Peak learning rate; that of the backbone where the head has its own."""
    final_learning_rate: float
    """Learning rate of the last iteration."""
    norm_weight_decay: float
    """Weight decay of batch-normalization parameters: 0 as in detectron2, or that of all weights as in mmseg."""
    precise_bn_images: int = 0
    """Number of training images, in whole batches, over which the statistics of batch normalization are recomputed
    after the last iteration (`bench.openmmlab.precise_bn`); 0 keeps those of the training."""
    output_stride: int | None = None
    """Input pixels per cell, in each direction, of the map that a segmentation head reads; None if not stated."""
    auxiliary_weight: float | None = None
    """Weight of the auxiliary head's loss; None if not stated."""
    labels: float = 1.0
    """Share of the training images that are used (`bench.datasets.shares`); the fold is the run's seed."""
    held_out: float = 0.0
    """What of the training images is evaluated, not trained on, so that settings can be chosen: a share below 1, or a
    number from 1 on; 0 for the protocols themselves."""
    held_out_by: str = "image"
    """What is held out as a whole: `image` or `folder`."""
    head_learning_rate: float | None = None
    """Peak learning rate of all but the backbone, which falls as the other does; None where all layers have one."""
    frozen: bool = False
    """Whether the backbone stays as it is, batch normalization in evaluation mode; only necks and heads are trained."""
    pretrained_head: bool = False
    """Whether the segmentation head that was pretrained with the backbone is loaded, too, all but its classifier."""

    def __post_init__(self) -> None:
        if not 0 < self.labels <= 1:
            raise ValueError(f"labels={self.labels} is no share of the training images")
        if self.precise_bn_batches * self.batch_size != self.precise_bn_images:
            raise ValueError(f"precise_bn_images={self.precise_bn_images} are not whole batches of {self.batch_size}")

    @property
    def precise_bn_batches(self) -> int:
        """Number of batches that make up `precise_bn_images`."""
        return self.precise_bn_images // max(1, self.batch_size)


@dataclass(frozen=True)
class Protocol:
    """One protocol; equal `sha256` means comparable results."""

    id: str
    version: int
    track: str
    task: str
    dataset: str
    headline: str
    title: str
    """Full title, e.g. `PASCAL VOC object detection, Faster R-CNN with FPN`."""
    short_title: str
    """Title for the head of a column, e.g. `VOC det Faster R-CNN FPN`."""
    docstring: str
    """Docstring of the file: purpose, cost, metric, and special properties."""
    plan: TrainingPlan | ProbePlan
    """What a run does: fine-tune the backbone, or probe it frozen."""
    sweep: SweepPlan | None
    """The settings among which the best are chosen for each checkpoint; None where they are the protocol's own."""
    sha256: str
    config_file: Path
    config: Mapping[str, Any] = field(repr=False, compare=False)
    """The data of the file, with unfilled slots."""

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return self.docstring.partition("\n")[0]

    def reference(self) -> ProtocolReference:
        """The record with which a result refers to this protocol."""
        return ProtocolReference.model_validate({key: getattr(self, key) for key in (*HEADER, *PROSE, "sha256")})


def load_protocol(name: str) -> Protocol:
    """The protocol `name`: a built-in id, the path of a file, or the id of an installed package's protocol.

    The built-in protocol `<track>_<name>` is `transfer_configs/<track>/<name>.py`; the ending `_batch<N>` gives it
    smaller batches (`with_batch`), the ending `_lr<RATE>_wd<DECAY>` is a run of its sweep (`trials`). A name that ends
    in `.py`, or that is the path of a file, names a file, which is executed (see the module's docstring).

    Raises:
        BenchError: there is none, its file is not a valid protocol, or it uses an id or track of a built-in one.
    """
    if (chooses := split_trial(name)) is not None and split_id(chooses)[0] in builtin_ids():
        found = {trial.id: trial for trial in trials(load_protocol(chooses))}
        if name not in found:
            raise BenchError(f"{chooses} tries no such settings: its sweep has {', '.join(found) or 'no runs'}")
        return found[name]
    base, batch = split_id(name)
    if base in builtin_ids():
        protocol = _load_builtin(base)
        return protocol if batch is None else _cut(protocol, batch)
    path = Path(name).expanduser()
    if path.suffix == ".py" or path.is_file():
        return _load_outside(path.absolute())
    entry_points = metadata.entry_points(group=ENTRY_POINTS, name=name)
    for entry_point in entry_points:
        protocol = _load_outside(_file_of(entry_point))
        if protocol.id != name:
            raise BenchError(f"{protocol.config_file} calls itself {protocol.id!r}, its entry point {name!r}")
        return protocol
    hint = did_you_mean(name, [*builtin_ids(), *installed_ids()])
    raise BenchError(
        f"there is no protocol {name!r}; {hint}`densebench protocols` lists all; or give the path of a .py file"
    )


def with_batch(protocol: Protocol, most: int) -> Protocol:
    """`protocol` with at most `most` images per iteration: itself, or one with another hash by `bench.smaller_batch`.

    Raises:
        BenchError: it is a probe or the user's own, or its batch cannot be divided into such batches.
    """
    if not isinstance(protocol.plan, TrainingPlan):
        raise BenchError(f"{protocol.id} is a probe: it has no batch")
    if is_outside(protocol):
        raise BenchError(
            f"{protocol.id} is a protocol of your own: write its batch and schedule into {protocol.config_file}"
        )
    return protocol if protocol.plan.batch_size <= most else _cut(protocol, most)


def trials(protocol: Protocol) -> list[Protocol]:
    """The protocols of the runs among which the settings of `protocol` are chosen; none where nothing is chosen."""
    return [
        from_config(
            copy_data(as_trial(protocol.config, settings), "config"),
            f"{protocol.docstring}\n{describe_trial(settings)}",
            protocol.config_file,
        )
        for settings in (protocol.sweep.grid if protocol.sweep else ())
    ]


def all_protocols() -> list[Protocol]:
    """Every protocol of every track, in the tracks' order."""
    return [load_protocol(protocol_id) for protocol_id in builtin_ids()]


def builtin_ids() -> list[str]:
    """Ids of the protocols of all tracks, in the tracks' order."""
    return [protocol_id for track in TRACKS for protocol_id in (*track.protocols, *track.further)]


def linear_probes() -> list[Protocol]:
    """The protocols of track frozen with a linear classifier, which are measured during pretraining and drawn."""
    protocols = [load_protocol(protocol_id) for protocol_id in FROZEN.protocols]
    return [
        protocol for protocol in protocols if isinstance(protocol.plan, ProbePlan) and protocol.plan.kind == "linear"
    ]


def installed_ids() -> list[str]:
    """Ids that installed packages offer as entry points; nothing is loaded."""
    return sorted(metadata.entry_points(group=ENTRY_POINTS).names)


def is_outside(protocol: Protocol) -> bool:
    """Whether the protocol is not one of DenseBench's own."""
    return not protocol.config_file.is_relative_to(CONFIGS)


def read_protocol(file: Path) -> Protocol:
    """Execute and validate one config file, built in or not.

    Raises:
        BenchError: the file is missing, imports anything but `transfer_configs`, does not execute, holds something that
            is not data, or has no valid `protocol`.
    """
    config, docstring = read_config(file)
    header = config.get("protocol")
    if not isinstance(header, dict):
        raise BenchError(f"{file} has no `protocol = dict(id=..., version=..., ...)`")
    wanted = {*HEADER, *PROSE, "plan"}
    if header.keys() != wanted:
        wrong = [f"lacks {key}" for key in (*HEADER, *PROSE, "plan") if key not in header]
        wrong += [f"has {key!r}, which has no meaning" for key in header if key not in wanted]
        raise BenchError(f"{file}: its `protocol` {', '.join(wrong)}")
    try:
        protocol = from_config(copy_data(config, "config"), docstring, file)
    except BenchError as error:
        raise BenchError(f"{file}: its `protocol` is not valid: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BenchError(f"{file}: its `protocol` is not valid: {type(error).__name__}: {error}") from error
    return protocol


def from_config(config: dict[str, Any], docstring: str, file: Path) -> Protocol:
    """The protocol that `config`, data alone, describes; `file` is where it, or what it was made from, is written."""
    header = config["protocol"]
    protocol = Protocol(
        **{key: header[key] for key in (*HEADER, *PROSE)},
        docstring=docstring,
        plan=_read_plan(header["plan"]),
        sweep=read_sweep(config),
        sha256=hash_config(config),
        config_file=file,
        config=MappingProxyType(config),
    )
    protocol.reference()
    return protocol


def _cut(protocol: Protocol, batch: int) -> Protocol:
    plan = protocol.plan
    if not isinstance(plan, TrainingPlan):
        raise BenchError(f"{protocol.id} is a probe: it has no batch")
    config = copy_data(with_smaller_batch(protocol.config, batch), "config")
    return from_config(config, f"{protocol.docstring}\n{describe(batch, plan.batch_size)}", protocol.config_file)


def _read_plan(plan: Mapping[str, Any]) -> TrainingPlan | ProbePlan:
    """The plan of a probe, which has a `kind`, or of fine-tuning."""
    return read_probe_plan(plan) if "kind" in plan else TrainingPlan(**plan)


def _load_builtin(protocol_id: str) -> Protocol:
    track, _, name = protocol_id.partition("_")
    protocol = read_protocol(CONFIGS / track / f"{name}.py")
    if (protocol.id, protocol.track) != (protocol_id, track):
        raise BenchError(f"{protocol.config_file} calls itself {protocol.id!r} of track {protocol.track!r}")
    return protocol


def _load_outside(file: Path) -> Protocol:
    protocol = read_protocol(file)
    if protocol.id in builtin_ids():
        raise BenchError(f"{file}: the id {protocol.id!r} is that of a built-in protocol: choose another")
    if protocol.track in {track.id for track in TRACKS}:
        raise BenchError(f"{file}: the track {protocol.track!r} is one of DenseBench's own: choose another name")
    missing = [section for section in _SECTIONS if section not in protocol.config]
    if missing and isinstance(protocol.plan, TrainingPlan):
        raise BenchError(f"{file} lacks {', '.join(missing)}: `densebench protocols show ID` prints a complete one")
    unread = protocol.config.keys() - {"protocol", *_SECTIONS}
    if unread and isinstance(protocol.plan, TrainingPlan):
        names = ", ".join(sorted(unread))
        raise BenchError(f"{file}: nothing reads {names}: remove it, or begin its name with an underscore")
    return protocol


def _file_of(entry_point: metadata.EntryPoint) -> Path:
    """The config file that an installed package's entry point names."""
    try:
        if entry_point.attr:
            return Path(entry_point.load()).absolute()
        spec = util.find_spec(entry_point.module)  # imports the packages around the module, not the module
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    except Exception as error:
        raise BenchError(
            f"the installed protocol {entry_point.name!r} ({entry_point.value}) cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    raise BenchError(f"the installed protocol {entry_point.name!r}: there is no module {entry_point.value}")
