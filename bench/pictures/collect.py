"""Collects what each submission's linear probe predicts on the same few validation images, and its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from bench.datasets import check
from bench.datasets.pairs import segmentation_pairs
from bench.errors import BenchError
from bench.pictures.draw import RGB, class_map, principal_colors, sample
from bench.probes.cells import freeze, read_scaled
from bench.probes.classifiers import fit
from bench.probes.material import Material, Part, draw_cells
from bench.probes.plans import ClassifierPlan
from bench.protocols import Protocol, linear_probes
from leaderboard.records import Result
from leaderboard.store import ResultStore
from pretrain.exported import is_exported, read_exported


@dataclass(frozen=True)
class Seen:
    """Pictures of one submission for the images of a sheet."""

    name: str
    sha256: str
    """Hash of the backbone's weights."""
    value: str
    """Headline value of the submission over all validation images."""
    predictions: list[RGB]
    features: list[RGB]


@dataclass(frozen=True)
class Sheet:
    """The pictures of one protocol."""

    title: str
    images: list[RGB]
    labels: list[RGB]
    seen: list[Seen]


def collect(work: Path, data: Path, *, names: Sequence[str] = (), images: int = 4) -> list[Sheet]:
    """One sheet of `images` validation images for each linear probe of the track frozen that has results on `data`.

    `names` are submissions (empty: all whose backbone is still in the work folder). The classifier is fitted again with
    the settings in its result, on the features that the probe stored; these are recomputed where they are gone.

    Raises:
        BenchError: there is nothing to show, a name has no result, or an image cannot be read.
    """
    results = ResultStore(work / "results").load()[0]
    sheets = [
        sheet
        for protocol in linear_probes()
        if isinstance(protocol.plan, ClassifierPlan)
        if (sheet := _sheet(protocol, protocol.plan, results, work, data, names, images)) is not None
    ]
    shown = {seen.name for sheet in sheets for seen in sheet.seen}
    missing = [name for name in names if name not in shown]
    if missing or not sheets:
        raise BenchError(
            f"{missing[0] if missing else work} has no result of a linear probe on {data} with its backbone in "
            f"{work / 'checkpoints'}: densebench submit CHECKPOINT --name NAME --track frozen --data {data}"
        )
    return sheets


def _sheet(
    protocol: Protocol,
    plan: ClassifierPlan,
    results: Sequence[Result],
    work: Path,
    data: Path,
    names: Sequence[str],
    images: int,
) -> Sheet | None:
    report = check(data, protocol.dataset)
    if report.errors:
        return None
    fingerprint = report.reference().fingerprint
    found = [
        (result, folder)
        for result in results
        if (result.protocol.sha256, result.dataset.fingerprint) == (protocol.sha256, fingerprint)
        and result.status == "finished"
        and (not names or result.card.name in names)
        and is_exported(folder := work / "checkpoints" / result.card.sha256[:12])
    ]
    if not found:
        return None
    parts = {part: segmentation_pairs(data, protocol.dataset, part) for part in ("train", "val")}
    chosen = np.array(sample([pair.image.name for pair in parts["val"]], images))
    pairs = [parts["val"][i] for i in chosen]
    labels = [pair.load_labels() for pair in pairs]
    grid, seen = None, []
    for result, folder in sorted(found, key=lambda one: one[0].card.name):
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        material = Material(
            freeze(read_exported(folder), device), parts, plan.size, fingerprint, work / "features", result.seed
        )
        grid = material.train.grid() if grid is None else grid  # depends only on the images, not on the backbone
        value = f"{protocol.headline} {result.metrics[protocol.headline]:.1f}"
        sizes = [one.shape for one in labels]
        seen.append(_seen(plan, material, grid, result, material.val.take(chosen), sizes, value))
    return Sheet(
        title=protocol.title,
        images=[read_scaled(pair, plan.size) for pair in pairs],
        labels=[class_map(one, plan.classes) for one in labels],
        seen=seen,
    )


def _seen(
    plan: ClassifierPlan,
    material: Material,
    grid: NDArray[np.uint8],
    result: Result,
    val: Part,
    sizes: Sequence[tuple[int, ...]],
    value: str,
) -> Seen:
    """Pictures of `sizes` for the images `val`, by the submission with `result`; `grid` are the training labels."""
    assert result.probe is not None and result.probe.chosen is not None  # a linear probe chooses its penalty
    x, y = draw_cells(
        material.train, grid, classes=plan.classes, most=plan.cells, seed=material.seed, device=material.device
    )
    scores = fit(plan, x, y, [result.probe.chosen])
    rows, columns = val.cells.shape[2:]
    predictions = []
    for i, size in enumerate(sizes):
        (found,) = scores(val.image_cells(i, material.device))
        maps = interpolate(found.T.reshape(1, plan.classes, rows, columns), size, mode="bilinear")
        predictions.append(class_map(maps[0].argmax(0).cpu().numpy(), plan.classes))
    cells = [np.asarray(val.cells[row], np.float32) for row in val.rows]
    return Seen(result.card.name, result.card.sha256, value, predictions, principal_colors(cells))
