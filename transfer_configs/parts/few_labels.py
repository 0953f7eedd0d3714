"""Protocols that use a share of the training labels of another protocol of the same track."""

from collections.abc import Mapping
from typing import Any

from transfer_configs.parts import datasets


def protocol(base: Mapping[str, Any], name: str, *, percent: int, iterations: int) -> dict[str, Any]:
    """The `protocol` with `percent` of the labels of `base`'s and so many iterations; `name` is its id, without share.

    Its learning rates stay; which images a share is depends on the run's seed (`bench.datasets.shares`).
    """
    return {
        **base,
        "id": f"{name}_p{percent}",
        "version": 1,
        "title": f"{base['title'].rpartition(', ')[0]}, {percent} % of the labels",
        "short_title": f"{base['short_title']} {percent} %",
        "plan": {**base["plan"], "iterations": iterations, "labels": percent / 100},
    }


def training(loader: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """The training `loader` with the plan's share of the images: of several lists, the share of each."""
    dataset = loader["dataset"]
    share = datasets.share(plan["labels"])
    if "datasets" in dataset:
        return {**loader, "dataset": {**dataset, "datasets": [{**part, **share} for part in dataset["datasets"]]}}
    return {**loader, "dataset": {**dataset, **share}}
