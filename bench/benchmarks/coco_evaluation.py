"""COCO's AP by hotcoco beside pycocotools: the same values? How much faster?

    python -m bench.benchmarks.coco_evaluation --data DATA [--detections 5000]

The detections are made of the objects of DATA's COCO val2017: moved, enlarged and mistaken as those of a detector, with
scores that follow their quality, and some where nothing is. Timed is what an evaluation does with them, from the list
of detections to the summary; the annotations have been read before. `densebench` is what a run does: hotcoco's, and
each image's share in each metric.
"""

from __future__ import annotations

import contextlib
import copy
import io
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cyclopts import run
from rich.table import Table

from bench.benchmarks.rounds import start
from bench.errors import BenchError
from bench.metrics.coco_detection import METRICS, evaluate_coco, load_ground_truth
from leaderboard.base.terminal import Console

ANNOTATIONS = Path("coco/annotations/instances_val2017.json")
MISTAKEN, NOTHING = 0.1, 0.3
"""Shares of the detections that have another category, and that lie where no object is."""
KINDS: tuple[Literal["bbox", "segm"], ...] = ("bbox", "segm")

Detection = dict[str, Any]


def compare(annotations: Path, *, count: int, rounds: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Both values of each metric for boxes and masks, their largest difference, and seconds of each evaluator.

    Raises:
        BenchError: the annotations cannot be read, or pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise BenchError("pycocotools is not installed: it is what hotcoco is compared with") from error
    ours = load_ground_truth(annotations)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(annotations))
    detections = real_like(theirs, count, seed)
    found: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        kept = ("image_id", "category_id", "score", "bbox" if kind == "bbox" else "segmentation")
        given = [{name: one[name] for name in kept} for one in detections]
        contestants: dict[str, Callable[[], dict[str, float]]] = {
            "pycocotools": lambda given=given, kind=kind: pycocotools_scores(theirs, given, kind),  # type: ignore[misc]
            "hotcoco": lambda given=given, kind=kind: _hotcoco_scores(ours, given, kind),  # type: ignore[misc]
            "densebench": lambda given=given, kind=kind: evaluate_coco(ours, given, kind),  # type: ignore[misc]
        }
        seconds, values = _in_turns(contestants, rounds)
        differences = [
            abs(values[name][metric] - values["pycocotools"][metric])
            for name in ("hotcoco", "densebench")
            for metric in values["pycocotools"]
        ]
        found[kind] = {"values": values, "largest_difference": max(differences), "seconds": seconds}
    return found


def real_like(truth: Any, count: int, seed: int) -> list[Detection]:
    """`count` detections of the images of a pycocotools `COCO`, each with `bbox` and `segmentation` (run lengths).

    A detection of an object is its mask, moved by a few per cent of its size, and the box of that, a little enlarged.
    """
    from pycocotools import mask as run_lengths

    rng = np.random.default_rng(seed)
    objects = [one for one in truth.anns.values() if not one["iscrowd"] and one["bbox"][2] >= 2 <= one["bbox"][3]]
    categories = np.array([one["category_id"] for one in objects])
    detections: list[Detection] = []
    while len(detections) < count:
        one = objects[rng.integers(len(objects))]
        image, nothing = truth.imgs[one["image_id"]], rng.random() < NOTHING
        if nothing:
            image = truth.imgs[list(truth.imgs)[rng.integers(len(truth.imgs))]]
        height, width = image["height"], image["width"]
        sides = np.minimum(np.array(one["bbox"][2:]), [width - 2, height - 2])
        spread = rng.exponential(0.08)
        if nothing:
            corner, score = rng.uniform(0, [width, height] - sides), rng.beta(1.2, 5)
            mask = np.zeros((height, width), np.uint8)
            x, y = corner.astype(int)
            mask[y : y + int(sides[1]) + 1, x : x + int(sides[0]) + 1] = 1
        else:
            shift = np.round(rng.normal(0, spread, 2) * sides).astype(int)
            mask = _moved(truth.annToMask(one), *shift)
            score = float(np.clip(rng.normal(0.9 - 3 * spread, 0.15), 0.01, 0.999))
        if not mask.any():
            continue
        code = run_lengths.encode(np.asfortranarray(mask))
        x, y, w, h = run_lengths.toBbox(code) + rng.normal(0, spread, 4) * np.tile(sides, 2) / 2
        category = rng.choice(categories) if nothing or rng.random() < MISTAKEN else one["category_id"]
        detections.append(
            {
                "image_id": image["id"],
                "category_id": int(category),
                "bbox": [float(x), float(y), max(1.0, float(w)), max(1.0, float(h))],
                "score": float(score),
                "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
            }
        )
    return detections


def pycocotools_scores(truth: Any, detections: list[Detection], kind: str) -> dict[str, float]:
    """The metrics in per cent, without those that no object has, as `evaluate_coco` gives them."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        return _summarized(COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), kind))


def _hotcoco_scores(truth: Any, detections: list[Detection], kind: str) -> dict[str, float]:
    from hotcoco import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        return _summarized(COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), kind))


def _summarized(evaluation: Any) -> dict[str, float]:
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {name: 100 * float(value) for name, value in zip(METRICS, evaluation.stats, strict=False) if value >= 0}


def _moved(mask: np.ndarray[Any, Any], x: int, y: int) -> np.ndarray[Any, Any]:
    """The mask (H, W) `x` columns to the right and `y` rows down; what leaves the image is gone."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    rows, columns = slice(max(0, y), min(height, height + y)), slice(max(0, x), min(width, width + x))
    source_rows, source_columns = (
        slice(max(0, -y), min(height, height - y)),
        slice(max(0, -x), min(width, width - x)),
    )
    if abs(y) < height and abs(x) < width:
        moved[rows, columns] = mask[source_rows, source_columns]
    return moved


def _in_turns(
    contestants: Mapping[str, Callable[[], dict[str, float]]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Seconds of each evaluator in each round, and what it found."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    values: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            began = time.perf_counter()
            values[name] = contestant()
            seconds[name].append(time.perf_counter() - began)
    return seconds, values


def main(*, data: Path, detections: int = 5000, rounds: int = 5, seed: int = 0) -> None:
    """Compare values and time on made detections of a data root's COCO val2017.

    Parameters
    ----------
    data
        Data root with coco/.
    detections
        How many.
    rounds
        The evaluators take turns so often.
    seed
        Of the detections.
    """
    if detections < 1 or rounds < 1:
        raise BenchError("take at least 1 detection and 1 round")
    found = compare(data / ANNOTATIONS, count=detections, rounds=rounds, seed=seed)
    table = Table(title=f"COCO AP of {detections:,} detections", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("kind", "AP", "largest difference", "evaluator", "seconds", "times as fast as pycocotools"):
        table.add_column(column)
    for kind, one in found.items():
        slowest = statistics.median(one["seconds"]["pycocotools"])
        for name, seconds in one["seconds"].items():
            median = statistics.median(seconds)
            facts = (kind, f"{one['values'][name]['AP']:.4f}", f"{one['largest_difference']:.1e}")
            table.add_row(*facts, name, f"{median:.3f}", f"{slowest / median:.1f}")
    Console().print(table)


if __name__ == "__main__":
    start(lambda: run(main))
