"""Makes the result record of a run, in the same way for fine-tuning and probes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from bench.environment import describe_environment
from bench.metrics.outputs import describe_outputs
from bench.protocols import Protocol
from leaderboard.records import HEAD, SCHEMA_VERSION, Card, DatasetReference, Result, result_key
from pretrain.run.memory import peak_memory_mib


def make_result(
    protocol: Protocol,
    card: Card,
    dataset: DatasetReference,
    seed: int,
    folder: Path | None,
    *,
    device: torch.device,
    precision: Literal["fp32", "bf16", "fp16"],
    devices: int = 1,
    head: str | None = None,
    **found: Any,
) -> Result:
    """The result of a run that ends now; its per-image outputs are those in `folder`, if one is given.

    `head` is the hash of the pretrained head that was loaded.
    `found` are the remaining fields of the record: status (default: finished), failure, metrics, training or probe,
    operations, seconds and wall_seconds.
    """
    standard_errors, outputs = ({}, {}) if folder is None else describe_outputs(folder)
    common: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "key": result_key(card.sha256, protocol.sha256, dataset.fingerprint, seed, head),
        "card": card,
        "protocol": protocol.reference(),
        "dataset": dataset,
        "seed": seed,
        "status": "finished",
        "failure": None,
        "standard_errors": standard_errors,
        "training": None,
        "probe": None,
        "environment": describe_environment(device, precision, devices),
        "verification": "self-reported",
        "sweep": None,
        "outputs": outputs if head is None else {**outputs, HEAD: head},
        "finished_at": datetime.now(UTC),
        "peak_memory_mib": round(peak_memory_mib(device), 1),
    }
    return Result(**(common | found))
