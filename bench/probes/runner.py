"""One probe run: protocol, checkpoint and seed in, result out. What is kept in the run's folder:

    config.json     the protocol
    counts.npz      `names` (V,) of the validation images and what the probe keeps of each, e.g. `counts` (V, K, K),
                    their confusion matrices (row = label)
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.datasets.pairs import segmentation_pairs
from bench.environment import describe_environment
from bench.errors import BenchError
from bench.metrics.uncertainty import standard_error
from bench.probes.cells import freeze
from bench.probes.kinds import classifier
from bench.probes.material import Findings, Material
from bench.probes.plan import ClassifierPlan, ProbePlan
from bench.protocols import Protocol
from leaderboard.base.files import file_sha256, make_folder, write_atomic
from leaderboard.records import SCHEMA_VERSION, DatasetReference, ProbeReport, Result, result_key
from pretrain.exported import read_exported
from pretrain.run.memory import peak_memory_mib

COUNTS = "counts.npz"

PROBES: Mapping[type[ProbePlan], Callable[[Any, Material], Findings]] = {ClassifierPlan: classifier.probe}
"""What executes a plan."""


def run_probe(
    protocol: Protocol, checkpoint: Path, data_root: Path, dataset: DatasetReference, seed: int, folder: Path
) -> Result:
    """Probe `checkpoint` (folder of `backbone.safetensors` and `card.json`) under `protocol`.

    Features are kept in `features` beside the folder `transfers` in which `folder` lies (see `bench.probes.features`).

    Raises:
        BenchError: the checkpoint, the data or `folder` is not usable, or what was built is not what the card says.
    """
    plan = protocol.plan
    if not isinstance(plan, ProbePlan):
        raise BenchError(f"{protocol.id} is no probe: it fine-tunes")
    started = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = freeze(read_exported(checkpoint), device)
    make_folder(folder)
    write_atomic(folder / "config.json", json.dumps(dict(protocol.config), indent=2) + "\n")
    material = Material(
        network=network,
        pairs={
            "train": segmentation_pairs(data_root, protocol.dataset, "train"),
            "val": segmentation_pairs(data_root, protocol.dataset, "val"),
        },
        size=plan.size,
        fingerprint=dataset.fingerprint,
        folder=_beside_transfers(folder),
        seed=seed,
    )
    found = PROBES[type(plan)](plan, material)
    outputs = _keep(found, material, folder)
    ended = time.perf_counter()

    card = network.card
    return Result(
        schema_version=SCHEMA_VERSION,
        key=result_key(card.sha256, protocol.sha256, dataset.fingerprint, seed),
        card=card,
        protocol=protocol.reference(),
        dataset=dataset,
        seed=seed,
        status="finished",
        failure=None,
        metrics=dict(found.metrics),
        standard_errors={metric: standard_error(shares) for metric, shares in found.shares.items()},
        training=None,
        probe=ProbeReport(
            backbone_tensors=network.tensors,
            channels=network.channels,
            training_cells=found.training_cells,
            images_evaluated=found.images,
            chosen=found.chosen,
            candidates={f"{value:g}": score for value, score in found.candidates.items()},
        ),
        environment=describe_environment(device, "fp32"),
        verification="self-reported",
        sweep=None,
        outputs=outputs,
        finished_at=datetime.now(UTC),
        wall_seconds=ended - started,
        seconds={what: round(seconds, 3) for what, seconds in material.clock.seconds.items()},
        peak_memory_mib=round(peak_memory_mib(device), 1),
    )


def _beside_transfers(folder: Path) -> Path:
    """Where features lie: in the work folder of the run, or for a folder elsewhere in itself."""
    work = next((parent for parent in folder.parents if parent.name == "transfers"), None)
    return (folder if work is None else work.parent) / "features"


def _keep(found: Findings, material: Material, folder: Path) -> dict[str, str]:
    """Write what was found of each image; the files' hashes by their names."""
    for name, text in found.files.items():
        write_atomic(folder / name, text)
    if found.arrays:
        content = io.BytesIO()
        names = np.array([pair.image.name for pair in material.pairs["val"]])
        np.savez_compressed(content, names=names, **found.arrays)
        write_atomic(folder / COUNTS, content.getvalue())
    written = [*found.files, *([COUNTS] if found.arrays else [])]
    return {name: file_sha256(folder / name) for name in written}
