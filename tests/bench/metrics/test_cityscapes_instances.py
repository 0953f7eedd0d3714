"""Cityscapes' AP against plain loops over its rules; where cityscapesscripts is installed, against its own script."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.datasets.names import CITYSCAPES_THINGS, CITYSCAPES_VOID
from bench.errors import BenchError
from bench.metrics.cityscapes_instances import IOU_THRESHOLDS, evaluate_instances, overlaps_of

SIDE = 60
CLASSES = list(CITYSCAPES_THINGS)
Scene = tuple[np.ndarray, list[np.ndarray], list[int], list[float]]
"""Instance ids, masks, class indices, scores."""


def scenes(seed: int, count: int) -> list[Scene]:
    """Streets of rectangles: objects, small ones, groups, void, and predictions near and far from them."""
    draw = np.random.default_rng(seed)
    return [_scene(draw) for _ in range(count)]


def _scene(draw: np.random.Generator) -> Scene:
    ids = np.full((SIDE, SIDE), 7, np.int32)
    ids[: draw.integers(0, 20)] = draw.choice(CITYSCAPES_VOID[1:])
    kinds = draw.choice(3, p=[0.1, 0.45, 0.45]) + 1
    shapes = []
    for number in range(draw.integers(0, 7)):
        label = int(draw.choice(CLASSES[:kinds]))
        top, left = draw.integers(0, SIDE - 12, 2)
        height, width = draw.integers(4, 12 if draw.random() < 0.3 else 40, 2)
        place = (slice(top, top + height), slice(left, left + width))
        ids[place] = label if draw.random() < 0.2 else 1000 * label + number
        shapes.append((label, place))
    masks, labels, scores = [], [], []
    for label, place in [shape for shape in shapes for _ in range(draw.integers(0, 4))]:
        mask = np.zeros((SIDE, SIDE), bool)
        if draw.random() < 0.4:
            mask |= ids == ids[place][0, 0]  # exactly what is seen of something
        else:
            rows, columns = (slice(max(0, part.start + int(draw.integers(-3, 4))), part.stop) for part in place)
            mask[rows, columns] = True
        masks.append(mask)
        labels.append(CLASSES.index(label if draw.random() < 0.9 else int(draw.choice(CLASSES))))
        scores.append(round(float(draw.random()), 1))
    return ids, masks, labels, scores


def expected(images: list[Scene]) -> np.ndarray:
    """AP (8, 10) in per cent, by loops over pixels' sets and one prediction after the other."""
    found = np.full((len(CLASSES), len(IOU_THRESHOLDS)), np.nan)
    for label, class_id in enumerate(CLASSES):
        for column, threshold in enumerate(IOU_THRESHOLDS):
            events, objects = [], 0
            for ids, masks, labels, scores in images:
                mine = [n for n in np.unique(ids).tolist() if n == class_id or n // 1000 == class_id]
                counted = [n for n in mine if n >= 1000 and np.count_nonzero(ids == n) >= 100]
                objects += len(counted)
                best: dict[int, float] = {}
                for mask, kind, score in zip(masks, labels, scores, strict=True):
                    if kind != label or not mask.any():
                        continue
                    ious = {n: np.sum(mask & (ids == n)) / np.sum(mask | (ids == n)) for n in mine}
                    matched = [n for n in mine if ious[n] > threshold]
                    if matched and matched[0] in counted:
                        n = matched[0]
                        if n in best:  # the lower one of the two is a false positive
                            events.append((min(best[n], score), False))
                        best[n] = max(best.get(n, -math.inf), score)
                    elif not matched:
                        pixels = int(np.isin(ids[mask], CITYSCAPES_VOID).sum())
                        pixels += sum(int(np.sum(mask & (ids == n))) for n in mine if n < 1000)
                        pixels += sum(int(np.sum(mask & (ids == n))) for n in mine if np.count_nonzero(ids == n) < 100)
                        if pixels / int(mask.sum()) <= threshold:
                            events.append((score, False))
                events += [(score, True) for score in best.values()]
            if objects:
                found[label, column] = 100 * _area(events, objects)
    return found


def _area(events: list[tuple[float, bool]], objects: int) -> float:
    points = [(0.0, 1.0)]
    for score in sorted({score for score, _ in events}, reverse=True):
        kept = [true for other, true in events if other >= score]
        points.append((sum(kept) / objects, sum(kept) / len(kept)))
    return sum((r1 - r0) * (p0 + p1) / 2 for (r0, p0), (r1, p1) in pairwise(points))


def evaluated(images: list[Scene]):
    return evaluate_instances([overlaps_of(*image) for image in images])


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_equal_to_plain_loops(seed: int, count: int) -> None:
    images, reference = scenes(seed, count), expected(scenes(seed, count))
    if not np.isfinite(reference).any():
        with pytest.raises(BenchError, match="no image has an object"):
            evaluated(images)
        return
    scores = evaluated(images)
    np.testing.assert_allclose(scores.per_class, reference, atol=1e-9)
    assert scores.metrics["AP"] == pytest.approx(np.nanmean(reference), abs=1e-9)
    assert scores.metrics["AP50"] == pytest.approx(np.nanmean(reference[:, 0]), abs=1e-9)


@pytest.mark.filterwarnings("ignore:`in1d` is deprecated:DeprecationWarning")
def test_equal_to_the_script_of_cityscapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = pytest.importorskip(
        "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling", reason="cityscapesscripts is not installed"
    )
    monkeypatch.chdir(tmp_path)  # it writes a file where it is run
    images = scenes(3, 30)
    truth, predictions = [], []
    for index, (ids, masks, labels, scores) in enumerate(images):
        name = f"calder_{index:06d}_000019"
        Image.fromarray(ids.astype(np.uint16)).save(tmp_path / f"{name}_gtFine_instanceIds.png")
        lines = []
        for number, (mask, label, score) in enumerate(zip(masks, labels, scores, strict=True)):
            Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f"{name}_{number}.png")
            lines.append(f"{name}_{number}.png {CLASSES[label]} {score}\n")
        (tmp_path / f"{name}_pred.txt").write_text("".join(lines))
        truth.append(str(tmp_path / f"{name}_gtFine_instanceIds.png"))
        predictions.append(str(tmp_path / f"{name}_pred.txt"))
    script.args.predictionPath, script.args.gtInstancesFile = str(tmp_path), str(tmp_path / "instances.json")
    script.args.quiet = True
    averages = script.evaluateImgLists(predictions, truth, script.args)["averages"]
    metrics = evaluated(images).metrics
    assert metrics["AP"] == pytest.approx(100 * averages["allAp"], abs=1e-9)
    assert metrics["AP50"] == pytest.approx(100 * averages["allAp50%"], abs=1e-9)


def test_shares_are_derivatives_by_the_weight_of_an_image() -> None:
    """An image that is there n times where all others are there N times has the weight n / N."""
    images = [overlaps_of(*image) for image in scenes(11, 3)]
    scores, copies = evaluate_instances(images), 15
    for index in range(len(images)):
        less, more = (
            evaluate_instances([image for i, image in enumerate(images) for _ in range(copies + step * (i == index))])
            for step in (-1, 1)
        )
        for metric, shares in scores.shares.items():
            slope = (more.metrics[metric] - less.metrics[metric]) * copies / 2
            assert shares[index] == pytest.approx(slope, abs=0.05)
            assert shares.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("masks", "scores", "message"),
    [
        ([np.ones((3, 3), bool)], [0.5], "is 3x3 pixels"),
        ([np.ones((SIDE, SIDE), bool)], [float("nan")], "not a finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(masks: list[np.ndarray], scores: list[float], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        overlaps_of(np.zeros((SIDE, SIDE), np.int32), masks, [0], scores)


def test_empty_masks_are_no_predictions() -> None:
    ids = np.full((SIDE, SIDE), 24001, np.int32)
    everything, nothing = np.ones((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    assert evaluated([(ids, [nothing, everything], [0, 0], [0.9, 0.5])]).metrics == {"AP": 100.0, "AP50": 100.0}
    assert evaluated([(ids, [nothing], [0], [0.9])]).metrics == {"AP": 0.0, "AP50": 0.0}
