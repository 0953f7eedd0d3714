"""A classifier of cells that is trained on labels: semantic segmentation of the validation images.

The hyperparameter is chosen on held-out training images, then the classifier is fitted to all training images and
scored once on the validation images, at their own size. The seed determines the held-out images and, in data sets with
more cells than the plan takes, which cells are used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench.datasets.shares import LABELLED
from bench.probes.classifiers import Scores, fit
from bench.probes.material import Findings, Material, Part, draw_cells, hold_out
from bench.probes.plans import ClassifierPlan
from bench.probes.segmentation import confusion_matrices, held_out_miou, mean_metrics


def probe(plan: ClassifierPlan, material: Material) -> Findings:
    """Semantic segmentation of the validation images.

    Raises:
        BenchError: an image cannot be read, a label is not a class, or there are too few images.
    """
    train, val = labelled(plan, material.train), material.val
    material.clock.lap("features")
    scores, chosen, candidates, cells = choose(plan, material, train)
    material.clock.lap("fit")
    counts = np.concatenate(list(confusion_matrices(scores, plan.classes, val, material.device)))
    metrics, shares = mean_metrics([counts])
    material.clock.lap("evaluation")
    return Findings(
        metrics=metrics,
        shares=shares,
        images=len(counts),
        training_cells=cells,
        arrays={"counts": counts},
        chosen=chosen,
        candidates=candidates,
        files=used(plan, train),
    )


def labelled(plan: ClassifierPlan, train: Part) -> Part:
    """The training images whose labels the plan uses."""
    return train if plan.labels == 1 else train.labelled(plan.labels)


def used(plan: ClassifierPlan, train: Part) -> dict[str, str]:
    """File with the list of the training images whose labels were used, where not all were; else none."""
    return {} if plan.labels == 1 else {LABELLED: "".join(f"{pair.image.name}\n" for pair in train.pairs)}


def choose(plan: ClassifierPlan, material: Material, train: Part) -> tuple[Scores, float, dict[float, float], int]:
    """The classifier, the chosen value of its hyperparameter, the score of each value, and the number of cells used.

    The score of a value is the mIoU (per cent), on the held-out images, of a classifier fitted to the others.
    """
    grid = train.grid()

    def cells(images: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        part, labels = train.take(images), grid[images]
        return draw_cells(
            part, labels, classes=plan.classes, most=plan.cells, seed=material.seed, device=material.device
        )

    fitted, held = hold_out(len(train.pairs), plan.held_out, material.seed)
    scores = fit(plan, *cells(fitted), plan.candidates)
    found = held_out_miou(scores, plan.classes, train.take(held), material.device)
    candidates = dict(zip(plan.candidates, found, strict=True))
    chosen = max(candidates, key=candidates.__getitem__)  # the first of equal ones
    x, y = cells(np.arange(len(train.pairs)))
    return fit(plan, x, y, [chosen]), chosen, candidates, len(x)
