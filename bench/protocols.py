"""A protocol is versioned, hashed data: one config file in `transfer_configs/`.

The file is executed as plain Python, so that reading every protocol imports neither torch nor the OpenMMLab libraries.
What depends on the checkpoint or on the run stands in it as a slot such as `"card:depth"` or `"run:seed"`
(`bench.openmmlab.build` fills them); the hash is therefore the protocol's own. It covers every value of the file and
no comment, name order or layout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import transfer_configs
from bench.errors import BenchError
from bench.tracks import TRACKS
from leaderboard.records import ProtocolReference

CONFIGS = Path(transfer_configs.__path__[0])


@dataclass(frozen=True)
class Plan:
    """What a run of the protocol must turn out to be; the guards compare the built model and the run with it."""

    batch_size: int
    """Images an iteration, over all processes."""
    iterations: int
    learning_rate: float
    """Peak learning rate."""
    final_learning_rate: float
    """Learning rate of the last iteration."""
    norm_weight_decay: float
    """Weight decay of batch-normalisation parameters: 0 as in detectron2, or that of all weights as in mmseg."""


@dataclass(frozen=True)
class Protocol:
    """One protocol; equal `sha256` means comparable results."""

    id: str
    version: int
    track: str
    task: str
    dataset: str
    headline: str
    summary: str
    """First line of the config's docstring."""
    plan: Plan
    sha256: str
    config_file: Path
    config: Mapping[str, Any] = field(repr=False, compare=False)
    """The parsed file, slots unfilled."""

    def reference(self) -> ProtocolReference:
        """The record by which a result names this protocol."""
        return ProtocolReference.model_validate(
            {key: getattr(self, key) for key in ("id", "version", "sha256", "track", "task", "dataset", "headline")}
        )


def load_protocol(protocol_id: str) -> Protocol:
    """The protocol `<track>_<name>` from `transfer_configs/<track>/<name>.py`.

    Raises:
        BenchError: no track lists it, or its file is not a valid protocol.
    """
    known = [listed for track in TRACKS for listed in track.protocols]
    if protocol_id not in known:
        raise BenchError(f"there is no protocol {protocol_id!r}: choose one of {', '.join(known)}")
    track, _, name = protocol_id.partition("_")
    protocol = read_protocol(CONFIGS / track / f"{name}.py")
    if (protocol.id, protocol.track) != (protocol_id, track):
        raise BenchError(f"{protocol.config_file} calls itself {protocol.id!r} of track {protocol.track!r}")
    return protocol


def all_protocols() -> list[Protocol]:
    """Every protocol of every track, in the tracks' order."""
    return [load_protocol(protocol_id) for track in TRACKS for protocol_id in track.protocols]


def read_protocol(file: Path) -> Protocol:
    """Execute and validate one config file.

    Raises:
        BenchError: the file is missing, does not execute, holds something that is not data, or has no valid `protocol`.
    """
    namespace: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), namespace)
    except Exception as error:
        raise BenchError(f"{file} is not a readable protocol: {type(error).__name__}: {error}") from error
    config = {key: value for key, value in namespace.items() if not key.startswith("_")}
    header = config.get("protocol")
    if not isinstance(header, dict):
        raise BenchError(f"{file} has no `protocol = dict(id=..., version=..., ...)`")
    try:
        protocol = Protocol(
            **{key: header[key] for key in ("id", "version", "track", "task", "dataset", "headline")},
            summary=(namespace.get("__doc__") or "").strip().partition("\n")[0],
            plan=Plan(**header["plan"]),
            sha256=hash_config(config),
            config_file=file,
            config=MappingProxyType(config),
        )
        protocol.reference()
    except (KeyError, TypeError, ValueError) as error:
        raise BenchError(f"{file}: its `protocol` is not valid: {type(error).__name__}: {error}") from error
    return protocol


def hash_config(config: Mapping[str, Any]) -> str:
    """SHA-256 of the config's canonical JSON: keys sorted, tuples as lists, numbers as Python writes them.

    Raises:
        ValueError: a value is not data (a number that is not finite, a key that is not text, an object).
    """
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()


def canonical_json(config: Mapping[str, Any]) -> str:
    """One text for each value of `config`, whatever its layout and key order."""
    return json.dumps(_plain(config, "config"), sort_keys=True, allow_nan=False, separators=(",", ":"))


def _plain(value: Any, where: str) -> Any:
    """`value` as JSON data; refuses what JSON would silently change."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}, which is not text")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}, which is not data")
