"""A linear classifier, fitted on clean training images, on corrupted copies of the validation images.

The classifier is that of kind `linear`, chosen and fitted on clean images. The copies are made from the scaled pictures
(`bench.probes.corruptions`), one after the other, and are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bench.metrics.uncertainty import Counts
from bench.probes.cells import BATCH, read_scaled
from bench.probes.classifiers import Scores
from bench.probes.corruptions import corrupt
from bench.probes.features import finite_halves
from bench.probes.kinds.classifier import choose, labelled, used
from bench.probes.material import Findings, Material
from bench.probes.plans import RobustnessPlan
from bench.probes.segmentation import compare, confusion_matrices, mean_metrics


def probe(plan: RobustnessPlan, material: Material) -> Findings:
    """Semantic segmentation (mIoU, mAcc, aAcc): means over all copies and over each corruption's, and clean images.

    Raises:
        BenchError: an image cannot be read, a label is not a class, there are too few images, or a cell is not finite.
    """
    train, val = labelled(plan, material.train), material.val
    material.clock.lap("features")
    scores, chosen, candidates, cells = choose(plan, material, train)
    material.clock.lap("fit")
    clean = np.concatenate(list(confusion_matrices(scores, plan.classes, val, material.device)))
    copies = [(name, strength) for name, strengths in plan.corruptions.items() for strength in strengths]
    counts = _corrupted(plan, material, scores, copies)
    metrics, shares = mean_metrics(list(counts))
    parts = {"clean": [clean]} | {
        name: [one for one, (of, _) in zip(counts, copies, strict=True) if of == name] for name in plan.corruptions
    }
    for name, sets in parts.items():
        of_part, shares_of_part = mean_metrics(sets)
        metrics[f"mIoU {name}"], shares[f"mIoU {name}"] = of_part["mIoU"], shares_of_part["mIoU"]
    material.clock.lap("evaluation")
    return Findings(
        metrics=metrics,
        shares=shares,
        images=len(clean),
        training_cells=cells,
        arrays={"clean": clean, "counts": counts.swapaxes(0, 1)},
        chosen=chosen,
        candidates=candidates,
        files=used(plan, train),
    )


@torch.inference_mode()
def _corrupted(plan: RobustnessPlan, material: Material, scores: Scores, copies: Sequence[tuple[str, float]]) -> Counts:
    """The confusion matrices of all copies (copies, V, K, K)."""
    pairs, network = material.pairs["val"], material.network
    counts = np.zeros((len(copies), len(pairs), plan.classes, plan.classes), np.int64)
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        pictures = [read_scaled(pair, plan.size) for pair in batch]
        labels = [pair.load_labels() for pair in batch]
        for copy, (name, strength) in enumerate(copies):
            images = [corrupt(picture, name, strength, start + i) for i, picture in enumerate(pictures)]
            halves = finite_halves(network, network.cells(np.stack(images)))  # rounded like stored cells
            maps = torch.from_numpy(halves).to(material.device).float()
            for i, (one, pair) in enumerate(zip(maps, batch, strict=True)):
                (found,) = scores(one.flatten(1).T)
                grid = found.T.reshape(plan.classes, *one.shape[1:])
                counts[copy, start + i] = compare(grid, labels[i], str(pair.labels))
    return counts
