"""One probe run: protocol, checkpoint and seed in, result out.

The hyper-parameter is chosen on training images that are held out, then the classifier is fitted to all training
images and scored once on the validation images, at their own size. The seed draws the held-out images and, of data
sets with more cells than the protocol takes, the cells. What is kept in the run's folder:

    config.json                 the protocol
    counts.npz, shares.npz      what it found on each validation image (`bench.metrics.outputs`)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from bench.datasets.masks import load_labels
from bench.datasets.pairs import Pair, segmentation_pairs
from bench.errors import BenchError
from bench.metrics.outputs import keep_segmentation
from bench.metrics.segmentation import IGNORE, confusion_matrix, segmentation_scores
from bench.metrics.uncertainty import Counts
from bench.probes.cells import Network, cell_labels, freeze
from bench.probes.classifiers import Scores, fit
from bench.probes.features import Features, features, features_key
from bench.probes.plan import ProbePlan
from bench.protocols import Protocol
from bench.record import make_result
from leaderboard.base.files import make_folder, write_atomic
from leaderboard.records import DatasetReference, ProbeReport, Result
from pretrain.exported import read_exported


@dataclass(frozen=True)
class Part:
    """The images of a part of a data set, with the cells of the backbone."""

    pairs: Sequence[Pair]
    rows: NDArray[np.int64]
    """Where in `cells` the images' cells are."""
    cells: Features
    """Of these images and of others, in a file."""

    @classmethod
    def whole(cls, pairs: Sequence[Pair], cells: Features) -> Part:
        """All images."""
        return cls(pairs, np.arange(len(pairs)), cells)

    def take(self, images: NDArray[np.int64]) -> Part:
        """Only some images; their cells stay in the file."""
        return Part([self.pairs[i] for i in images], self.rows[images], self.cells)


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
    train, val = (
        _part(network, plan, protocol, data_root, dataset, part, _beside_transfers(folder)) for part in ("train", "val")
    )
    with_features = time.perf_counter()

    candidates = _compare(plan, train, seed, device)
    value = max(candidates, key=candidates.__getitem__)  # of equals the first
    x, y = draw_cells(plan, train, seed, device)
    scores = fit(plan, x, y, value)
    fitted = time.perf_counter()
    counts = evaluate(plan, scores, val, device)
    metrics = keep_segmentation(folder, [pair.image.name for pair in val.pairs], counts)
    ended = time.perf_counter()

    return make_result(
        protocol,
        network.card,
        dataset,
        seed,
        folder,
        device=device,
        precision="fp32",
        metrics=metrics,
        probe=ProbeReport(
            backbone_tensors=network.tensors,
            channels=network.channels,
            training_cells=len(x),
            images_evaluated=len(counts),
            chosen=value,
            candidates={f"{value:g}": score for value, score in candidates.items()},
        ),
        wall_seconds=ended - started,
        seconds={
            "features": round(with_features - started, 3),
            "fit": round(fitted - with_features, 3),
            "evaluation": round(ended - fitted, 3),
        },
    )


def _beside_transfers(folder: Path) -> Path:
    """Where features lie: in the work folder of the run, or for a folder elsewhere in itself."""
    work = next((parent for parent in folder.parents if parent.name == "transfers"), None)
    return (folder if work is None else work.parent) / "features"


def _part(
    network: Network, plan: ProbePlan, protocol: Protocol, root: Path, dataset: DatasetReference, part: str, where: Path
) -> Part:
    pairs = segmentation_pairs(root, protocol.dataset, "train" if part == "train" else "val")
    key = features_key(network, dataset.fingerprint, part, plan.size)
    return Part.whole(pairs, features(network, pairs, plan.size, where / key))


def _compare(plan: ProbePlan, train: Part, seed: int, device: torch.device) -> dict[float, float]:
    """For each candidate the mIoU (per cent) on the held-out images of a classifier fitted to the others."""
    fitted, held = hold_out(len(train.pairs), plan.held_out, seed)
    if not len(fitted) or not len(held):
        raise BenchError(f"{len(train.pairs)} training image(s) cannot be split to choose a hyper-parameter: add some")
    x, y = draw_cells(plan, train.take(fitted), seed, device)
    rest = train.take(held)
    return {
        value: segmentation_scores(evaluate(plan, fit(plan, x, y, value), rest, device).sum(0)).miou
        for value in plan.candidates
    }


def hold_out(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the images to fit to and of those held out (a `share` of `count`, at least 1), both sorted."""
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, round(share * count))
    return np.sort(order[held:]), np.sort(order[:held])


def draw_cells(plan: ProbePlan, part: Part, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cells (n, C) in float32 and their labels (n,) int64: all whose label counts, or `plan.cells` of them.

    Raises:
        BenchError: no cell has a label that counts.
    """
    rows, columns = part.cells.shape[2:]
    labels = np.stack([cell_labels(load_labels(pair.labels), rows, columns) for pair in part.pairs]).reshape(-1)
    usable = np.flatnonzero(labels != IGNORE)
    if not len(usable):
        raise BenchError("no cell of the training images has a label that counts")
    if len(usable) > plan.cells:
        usable = np.sort(np.random.default_rng(seed).choice(usable, plan.cells, replace=False))
    image, cell = np.divmod(usable, rows * columns)
    x = np.empty((len(usable), part.cells.shape[1]), np.float32)
    for index in np.unique(image):
        chosen = image == index
        x[chosen] = part.cells[part.rows[index]].reshape(part.cells.shape[1], -1)[:, cell[chosen]].T
    y = labels[usable].astype(np.int64)
    if y.max() >= plan.classes:
        raise BenchError(f"a training image has label {y.max()}: the protocol knows 0 to {plan.classes - 1}")
    return torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)


@torch.inference_mode()
def evaluate(plan: ProbePlan, scores: Scores, part: Part, device: torch.device) -> Counts:
    """The confusion matrix of each image (V, K, K): scores of cells, upsampled to the label map, the highest wins."""
    return np.stack(list(_confusion(plan, scores, part, device)))


def _confusion(plan: ProbePlan, scores: Scores, part: Part, device: torch.device) -> Iterator[NDArray[np.int64]]:
    for pair, row in zip(part.pairs, part.rows, strict=True):
        labels, cells = load_labels(pair.labels), part.cells[row]
        channels, rows, columns = cells.shape
        rows_of_cells = torch.from_numpy(cells.astype(np.float32)).to(device).reshape(channels, -1).T
        found = scores(rows_of_cells).T.reshape(1, plan.classes, rows, columns)
        chosen = interpolate(found, labels.shape, mode="bilinear")[0].argmax(0)
        yield confusion_matrix(labels, chosen.cpu().numpy(), plan.classes, str(pair.labels))
