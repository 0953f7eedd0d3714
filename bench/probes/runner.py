"""One probe run: makes a result from a protocol, a checkpoint and a seed. It keeps these files in the run's folder:

config.json     the protocol
counts.npz      `names` (V,) of the validation images and the probe's counts for each, e.g. `counts` (V, K, K), the
                confusion matrices (row = label)
shares.npz      each image's share in each metric (`leaderboard.shares`)

Where objects are followed through videos, each row is a video instead of an image.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.clock import Clock
from bench.datasets.classified import classified_images
from bench.datasets.own.description import number_of
from bench.datasets.pairs import segmentation_pairs
from bench.datasets.shares import take_share
from bench.errors import BenchError
from bench.metrics.outputs import describe_outputs, keep_counts
from bench.probes.cells import Network, freeze
from bench.probes.images import ImageMaterial
from bench.probes.kinds import (
    classifier,
    clusters,
    foreground,
    head,
    image_classifier,
    low_shot,
    rank,
    retrieval,
    robustness,
    segments,
    svm,
)
from bench.probes.kinds.propagation import fine_cells
from bench.probes.kinds.videos import follow
from bench.probes.material import Findings, Material
from bench.probes.plans import (
    CellPlan,
    ClassifierPlan,
    ClusterPlan,
    ForegroundPlan,
    HeadPlan,
    ImageClassifierPlan,
    ImagePlan,
    LidarPlan,
    LowShotPlan,
    ProbePlan,
    PropagationPlan,
    RankPlan,
    RetrievalPlan,
    RobustnessPlan,
    SegmentPlan,
    SvmPlan,
)
from bench.probes.size import head_parameters, probe_operations
from bench.protocols import Protocol
from bench.record import make_result
from leaderboard.base.files import file_sha256, make_folder, write_atomic
from leaderboard.records import DatasetReference, ProbeReport, Result
from leaderboard.shares import SHARES, Shares
from pretrain.exported import read_exported

PROBES: Mapping[type[ProbePlan], Callable[[Any, Material], Findings]] = {
    ClassifierPlan: classifier.probe,
    RobustnessPlan: robustness.probe,
    HeadPlan: head.probe,
    ClusterPlan: clusters.probe,
    ForegroundPlan: foreground.probe,
    SegmentPlan: segments.probe,
    RetrievalPlan: retrieval.probe,
    RankPlan: rank.probe_rank,
    LidarPlan: rank.probe_lidar,
}
"""Functions that execute a plan of cells, by its class."""
IMAGE_PROBES: Mapping[type[ProbePlan], Callable[[Any, ImageMaterial], Findings]] = {
    ImageClassifierPlan: image_classifier.probe,
    SvmPlan: svm.probe,
    LowShotPlan: low_shot.probe,
}
"""The same for plans of whole images."""


def run_probe(
    protocol: Protocol,
    checkpoint: Path,
    data_root: Path,
    dataset: DatasetReference,
    seed: int,
    folder: Path,
    *,
    features: Path | None = None,
) -> Result:
    """Probe `checkpoint` (folder of `backbone.safetensors` and `card.json`) under `protocol`.

    `features` is the folder in which features are kept (see `bench.probes.features`; default: `features` next to the
    folder `transfers` that contains `folder`).

    Raises:
        BenchError: the checkpoint, the data or `folder` is not usable, or the built network is not what the card says.
    """
    plan = protocol.plan
    if not isinstance(plan, ProbePlan):
        raise BenchError(f"{protocol.id} is not a probe: it fine-tunes")
    started = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = freeze(read_exported(checkpoint), device)
    make_folder(folder)
    write_atomic(folder / "config.json", json.dumps(dict(protocol.config), indent=2) + "\n")
    if isinstance(plan, ClassifierPlan) and not plan.classes:
        plan = plan.for_labels(number_of(data_root, "labels"))
    clock = Clock()
    features = features or _beside_transfers(folder)
    if isinstance(plan, PropagationPlan):
        found, names = follow(plan, fine_cells(network), data_root, protocol.dataset, device, clock)
    elif isinstance(plan, ImagePlan):
        material = ImageMaterial(
            network=network,
            root=data_root,
            dataset=protocol.dataset,
            fingerprint=dataset.fingerprint,
            folder=features,
            seed=seed,
            clock=clock,
        )
        found = IMAGE_PROBES[type(plan)](plan, material)
        names = list(classified_images(data_root, protocol.dataset, "val").names)
    else:
        found, names = _probe_images(plan, network, protocol, data_root, dataset, seed, features, clock)
    return make_result(
        protocol,
        network.card,
        dataset,
        seed,
        folder,
        device=device,
        precision="fp32",
        metrics=dict(found.metrics),
        outputs=_keep(found, names, folder),
        probe=ProbeReport(
            backbone_tensors=network.tensors,
            head_parameters=found.head_parameters or head_parameters(plan, network.channels),
            channels=found.channels or network.channels,
            training_cells=found.training_cells,
            images_evaluated=found.images,
            chosen=found.chosen,
            candidates={f"{value:g}": score for value, score in found.candidates.items()},
        ),
        operations=probe_operations(plan, network) if isinstance(plan, CellPlan | ImagePlan) else None,
        wall_seconds=time.perf_counter() - started,
        seconds={what: round(seconds, 3) for what, seconds in clock.seconds.items()},
    )


def _probe_images(
    plan: ProbePlan,
    network: Network,
    protocol: Protocol,
    data_root: Path,
    dataset: DatasetReference,
    seed: int,
    features: Path,
    clock: Clock,
) -> tuple[Findings, list[str]]:
    """Findings of a probe of images, and the names of the validation images."""
    assert isinstance(plan, CellPlan)
    train = segmentation_pairs(data_root, protocol.dataset, "train")
    some = 0 < plan.images < len(train)
    if some:
        train = [train[i] for i in take_share([pair.image.name for pair in train], plan.images / len(train))]
    material = Material(
        network=network,
        pairs={"train": train, "val": segmentation_pairs(data_root, protocol.dataset, "val")},
        images=len(train) if some else 0,
        size=plan.size,
        fingerprint=dataset.fingerprint,
        folder=features,
        seed=seed,
        clock=clock,
    )
    return PROBES[type(plan)](plan, material), [pair.image.name for pair in material.pairs["val"]]


def _beside_transfers(folder: Path) -> Path:
    """Folder of features: in the run's work folder or, if `folder` lies elsewhere, in `folder` itself."""
    work = next((parent for parent in folder.parents if parent.name == "transfers"), None)
    return (folder if work is None else work.parent) / "features"


def _keep(found: Findings, names: Sequence[str], folder: Path) -> dict[str, str]:
    """Write the findings for each image; return the files' hashes by their names."""
    for name, text in found.files.items():
        write_atomic(folder / name, text.encode(errors="surrogateescape"))  # names of files need not be UTF-8
    if found.arrays:
        keep_counts(folder, names, found.arrays)
    if found.shares:
        Shares(tuple(names), found.shares).write(folder / SHARES)
    return {name: file_sha256(folder / name) for name in found.files} | describe_outputs(folder)[1]
