"""Linear support vector machines of image vectors, as code for classification on VOC 2007 trains and scores them.

Settings of Goyal et al. (ICCV 2019, arXiv 1905.01235) and of the code that follows them: scikit-learn's LinearSVC with
squared hinge loss in its dual form, a class weight of 2 for images that have the class, and at most 2,000 iterations;
vectors are scaled to unit length. liblinear visits images in a random order, which is fixed here.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from bench.datasets.classified import PRESENT, UNKNOWN
from bench.metrics.classification import average_precision
from bench.metrics.uncertainty import Floats

Labels = NDArray[np.int64]
"""`PRESENT`, `ABSENT` or `UNKNOWN` for each image (n,)."""


def unit_length(vectors: NDArray[np.floating]) -> Floats:
    """The vectors (n, D), each divided by its length plus 1e-5."""
    x = np.asarray(vectors, np.float64)
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-5)


def rotated(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Training vectors `x` (n, D) and others `y` (m, D) in coordinates of the space that `x` spans, at most n.

    Machines depend on the products of vectors alone, which stay the same: few images take less time, and no more.
    """
    if len(x) >= x.shape[1]:
        return x, y
    basis, coordinates = np.linalg.qr(x.T)
    return np.ascontiguousarray(coordinates.T), y @ basis


def decision(x: Floats, present: NDArray[np.bool_], cost: float, asked: Floats) -> Floats:
    """Decision values (m,) of the vectors `asked` (m, D), learned from `x` (n, D), some of which have the class."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    machine = LinearSVC(
        C=cost, class_weight={1: 2, -1: 1}, loss="squared_hinge", dual=True, max_iter=2000, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 2,000 iterations are the published rule, converged or not
        machine.fit(x, np.where(present, 1, -1))
    return machine.decision_function(asked)


def cross_validated(x: Floats, present: NDArray[np.bool_], cost: float, folds: int) -> float:
    """The mean average precision, in scikit-learn's form, over folds that keep the share of the class and the images'
    order. At least `folds` images have the class, and as many do not."""
    from sklearn.model_selection import StratifiedKFold

    found = []
    for fitted, held in StratifiedKFold(folds).split(x, present):
        scores = decision(x[fitted], present[fitted], cost, x[held])
        found.append(average_precision(scores, present[held], "steps"))
    return float(np.mean(found))


def usable_classes(train: NDArray[np.int64], val: NDArray[np.int64], least: int) -> list[int]:
    """The classes that at least `least` training images have and as many do not, and that some val image has.

    `train` (N, K) and `val` (V, K) say for each image and class whether it is there.
    """
    enough = (train == PRESENT).sum(0) >= least
    enough &= (train != PRESENT).sum(0) - (train == UNKNOWN).sum(0) >= least
    return [int(k) for k in np.flatnonzero(enough & (val == PRESENT).any(0))]
