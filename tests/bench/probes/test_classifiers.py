"""The probes' classifiers against scikit-learn and against a plain search in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from bench.errors import BenchError
from bench.probes.classifiers import QUERIES, fit, fit_linear, fit_neighbours
from bench.probes.plans import ClassifierPlan, read_probe_plan

RNG = np.random.default_rng(0)
CLASSES, CHANNELS = 4, 12
MEANS = RNG.normal(size=(CLASSES, CHANNELS))
LABELS = RNG.integers(0, CLASSES, 600)
CELLS = (MEANS[LABELS] + 1.5 * RNG.normal(size=(600, CHANNELS))) * RNG.uniform(0.1, 9, CHANNELS) + 3
X, Y = torch.from_numpy(CELLS[:400]), torch.from_numpy(LABELS[:400])
QUERY = torch.from_numpy(CELLS[400:])


@pytest.mark.parametrize("penalty", [0.3, 0.01])
def test_the_regression_is_scikit_learn_s(penalty: float) -> None:
    scaler = StandardScaler().fit(X.numpy())
    theirs = LogisticRegression(C=1 / (penalty * len(X)), tol=1e-10, max_iter=5000)
    theirs.fit(scaler.transform(X.numpy()), Y.numpy())
    ours = fit_linear(X, Y, CLASSES, penalty=penalty, iterations=400)(QUERY).softmax(1)
    np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(scaler.transform(QUERY.numpy())), atol=2e-4)


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_the_vote_is_scikit_learn_s(count: int) -> None:
    scaler = StandardScaler().fit(X.numpy())
    weights = lambda distance: np.exp((1 - distance) / 0.07)  # noqa: E731
    theirs = KNeighborsClassifier(min(count, len(X)), weights=weights, metric="cosine", algorithm="brute")
    theirs.fit(scaler.transform(X.numpy()), Y.numpy())
    ours = fit_neighbours(X, Y, CLASSES, counts=[3, count], temperature=0.07)(QUERY)[1]
    np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(scaler.transform(QUERY.numpy())), atol=1e-9)


def test_float32_and_parts_of_queries_change_no_more_than_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = fit_neighbours(X, Y, CLASSES, counts=[10], temperature=0.07)(QUERY)
    monkeypatch.setattr("bench.probes.classifiers.QUERIES", 7)
    in_parts = fit_neighbours(X.float(), Y, CLASSES, counts=[10], temperature=0.07)(QUERY.float())
    assert QUERIES > 7
    torch.testing.assert_close(in_parts[0].double(), exact[0], atol=1e-4, rtol=0)


def test_a_constant_channel_says_nothing() -> None:
    x = torch.cat([X, torch.full((len(X), 1), 7.0, dtype=X.dtype)], 1)
    query = torch.cat([QUERY, torch.full((len(QUERY), 1), 7.0, dtype=X.dtype)], 1)
    for kind, options in (("linear", {"iterations": 100}), ("knn", {"temperature": 0.07})):
        plan = ClassifierPlan(**{**PLAN, "size": (64, 96), "kind": kind, "options": options})
        value = 10.0 if kind == "knn" else 0.01
        (with_it,), (without,) = fit(plan, x, Y, [value])(query), fit(plan, X, Y, [value])(QUERY)
        torch.testing.assert_close(with_it, without, atol=1e-3, rtol=1e-3)


PLAN: Mapping[str, Any] = {
    "kind": "linear",
    "size": [64, 96],
    "classes": CLASSES,
    "cells": 100,
    "held_out": 0.2,
    "candidates": [0.1],
    "options": {"iterations": 9},
}


def test_a_plan_is_read_or_refused() -> None:
    assert read_probe_plan(PLAN) == ClassifierPlan("linear", (64, 96), CLASSES, 100, 0.2, (0.1,), {"iterations": 9})
    for change in (
        {"kind": "svm"}, {"kind": "knn"}, {"size": (64, 100)}, {"held_out": 1.0}, {"candidates": ()},
        {"candidates": (0.0,)}, {"cells": 0}, {"more": 1}, {"options": {"iterations": -1}},
        {"labels": 0}, {"size": 64}, {"kind": ["linear"]}, {"cells": "many"},
    ):  # fmt: skip
        with pytest.raises(BenchError):
            read_probe_plan(PLAN | change)
    with pytest.raises(BenchError, match="size"):
        read_probe_plan({key: value for key, value in PLAN.items() if key != "size"})
