"""Probes of whole images against scikit-learn on the same vectors, and runs from files to results."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from bench.checkpoints import import_checkpoint
from bench.datasets import check
from bench.datasets.classified import ABSENT, PRESENT, UNKNOWN, ClassifiedImages, classified_images
from bench.datasets.shares import LABELLED
from bench.errors import BenchError
from bench.metrics.classification import (
    RULES,
    average_precision,
    average_precision_shares,
    class_accuracy,
    class_metrics,
    top_correct,
)
from bench.probes.images import ImagePart, pool, read_square
from bench.probes.kinds import image_classifier, low_shot, svm
from bench.probes.plans import ImageClassifierPlan, ImagePlan, read_probe_plan
from bench.probes.runner import run_probe
from bench.probes.support_vectors import cross_validated, decision, rotated, unit_length, usable_classes
from bench.protocols import load_protocol
from leaderboard.records import Result
from leaderboard.shares import SHARES, read_shares
from transfer_configs.parts import probes

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)


def part_of(vectors: np.ndarray, labels: np.ndarray, classes: int) -> ImagePart:
    names = tuple(f"{label}/{i}.jpg" for i, label in enumerate(labels))
    images = ClassifiedImages(tuple(map(Path, names)), names, labels, tuple(map(str, range(classes))))
    return ImagePart(images, vectors.astype(np.float16))


def blobs(count: int, classes: int = 4, width: int = 12, seed: int = 0) -> ImagePart:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centers = np.random.default_rng(99).normal(size=(classes, width))
    return part_of(3 + centers[labels] + 1.5 * rng.normal(size=(count, width)), labels, classes)


def plan_of(**plan: object) -> ImageClassifierPlan:
    found = read_probe_plan(plan)
    assert isinstance(found, ImageClassifierPlan)
    return found


def test_linear_is_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_classifier, "BLOCK", 37)  # several blocks
    train, val, penalty = blobs(120), blobs(40, seed=1), 0.01
    rows = np.arange(120)[::2]
    (scores,) = image_classifier.fit(plan_of(**probes.image_linear()), train, rows, [penalty], CPU)(val, np.arange(40))
    scaler = StandardScaler().fit(train.take(rows))
    reference = LogisticRegression(C=1 / (penalty * len(rows)), max_iter=1000, tol=1e-8)
    reference.fit(scaler.transform(train.take(rows)), train.images.labels[rows])
    expected = reference.decision_function(scaler.transform(val.take(np.arange(40))))
    np.testing.assert_allclose(scores - scores.mean(1, keepdims=True), expected, atol=0.02)


def test_nearest_neighbors_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_classifier, "BLOCK", 37)
    monkeypatch.setattr(image_classifier, "QUERIES", 16)
    train, val, rows = blobs(120), blobs(40, seed=1), np.arange(120)[::2]
    found = image_classifier.fit(plan_of(**probes.image_knn()), train, rows, [5, 100], CPU)(val, np.arange(40))
    for scores, count in zip(found, (5, 60), strict=True):  # where there are fewer, all vote
        reference = KNeighborsClassifier(
            count, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
        ).fit(train.take(rows).astype(float), train.images.labels[rows])
        expected = reference.predict_proba(val.take(np.arange(40)).astype(float))
        np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_precisions_are_the_published_ones() -> None:
    for _ in range(30):
        true = RNG.random(40) < 0.3
        true[0] = True
        scores = RNG.normal(size=40).round(1)
        assert average_precision(scores, true, "steps") == pytest.approx(average_precision_score(true, scores))
        scores = RNG.permutation(40).astype(float)
        ranked = true[np.argsort(-scores)]
        precision, recall = np.cumsum(ranked) / np.arange(1, 41), np.cumsum(ranked) / true.sum()
        area = sum(max(precision[recall >= r]) for r in recall[ranked]) / true.sum()
        assert average_precision(scores, true, "envelope") == pytest.approx(area)
        eleven = [max(precision[recall >= r], default=0.0) for r in np.arange(0, 1.1, 0.1)]
        assert average_precision(scores, true, "eleven") == pytest.approx(np.mean(eleven))


@pytest.mark.parametrize("rule", ["steps", "envelope"])
def test_shares_are_derivatives(rule: str) -> None:
    """No two precisions are equal: there the envelope would have a kink."""
    scores = RNG.permutation(12).astype(float)
    true = np.array([0, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 1], bool)[np.argsort(np.argsort(-scores))]

    def value(weights: np.ndarray) -> float:
        order = np.argsort(-scores)
        hits = np.cumsum((weights * true)[order])
        precision, recall = hits / np.cumsum(weights[order]), hits / hits[-1]
        best = precision if rule == "steps" else np.maximum.accumulate(precision[::-1])[::-1]
        return float((np.diff(recall, prepend=0.0) * best).sum())

    one, step = np.ones(12), 1e-6 * np.eye(12)
    numeric = [(value(one + step[i]) - value(one - step[i])) / 2e-6 for i in range(12)]
    np.testing.assert_allclose(average_precision_shares(scores, true, rule), numeric, atol=1e-4)
    assert all(abs(average_precision_shares(scores, true, every).sum()) < 1e-9 for every in RULES)


def test_machines_are_scikit_learns_and_few_images_take_few_dimensions() -> None:
    vectors = np.abs(RNG.normal(size=(60, 90))) + RNG.random((60, 1))
    present = RNG.random(60) < 0.4
    x = unit_length(vectors)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-4)
    reference = LinearSVC(C=1.0, class_weight={1: 2, -1: 1}, max_iter=2000, dual=True, random_state=0)
    expected = cross_val_score(reference, x, np.where(present, 1, -1), cv=3, scoring="average_precision").mean()
    assert cross_validated(x, present, 1.0, 3) == pytest.approx(expected)
    values = reference.fit(x[:40], np.where(present[:40], 1, -1)).decision_function(x[40:])
    assert np.array_equal(decision(x[:40], present[:40], 1.0, x[40:]), values)
    fewer, asked = rotated(x[:40], x[40:])
    assert fewer.shape == (40, 40)
    np.testing.assert_allclose(fewer @ fewer.T, x[:40] @ x[:40].T, atol=1e-12)
    np.testing.assert_allclose(decision(fewer, present[:40], 1.0, asked), values, atol=1e-3)
    separable = np.concatenate([x, 2.0 * present[:, None]], 1)
    assert average_precision(decision(separable, present, 10.0, separable), present, "envelope") == 1


def test_classes_without_images_are_left_out() -> None:
    train = np.array([[1, 1, 1, 0], [1, 0, 1, 1], [1, 0, -1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
    val = np.array([[1, 1, 1, 0], [0, 0, 0, -1]])
    assert usable_classes(train, val, 2) == [0, 2]
    assert usable_classes(train, val, 3) == []  # class 0 is missing from two only
    value, shares = svm.score(np.array([3.0, 2.0, 1.0]), np.array([UNKNOWN, ABSENT, PRESENT]), "envelope")
    assert value == 0.5 and shares[0] == 0


def test_draws_of_fewer_images_are_part_of_those_of_more() -> None:
    labels = RNG.choice([PRESENT, ABSENT, ABSENT, UNKNOWN], 60)
    order = low_shot.order_of(tuple(f"{i}.jpg" for i in range(60)), 3)
    assert sorted(order) == list(range(60)) and order.tolist() != low_shot.order_of(("a", "b"), 3).tolist()
    before: set[int] = set()
    for shots in (1, 2, 4, 100):
        taken, rest = low_shot.draw(labels, order, shots, 3)
        present = (labels == PRESENT).sum()
        assert (labels[taken] == PRESENT).sum() == min(shots, present - 1) and before <= set(taken.tolist())
        assert set(taken) | set(rest) == set(np.flatnonzero(labels != UNKNOWN)) and not set(taken) & set(rest)
        before = set(taken.tolist())


def test_ranks_and_bands() -> None:
    scores = np.array([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4], [0.4, 0.4, 0.2]])
    assert top_correct(scores, np.array([0, 2, 1]), 1).tolist() == [True, False, False]  # of equal ones the first
    assert top_correct(scores, np.array([2, 2, 1]), 2).tolist() == [False, True, True]
    correct, labels = np.array([True, False, True, True]), np.array([0, 0, 1, 2])
    value, shares = class_accuracy(correct, labels, [0, 1, 7])
    assert value == 75 and shares.tolist() == [12.5, -12.5, 0, 0]
    tables = class_metrics(np.eye(3)[[0, 1, 1, 2]], labels, np.array([200, 50, 3]))
    assert {name: found for name, (found, _) in tables.items()} == {
        "top-1": 75, "class accuracy": pytest.approx(250 / 3), "top-1 many": 50, "top-1 medium": 100, "top-1 few": 100
    }  # fmt: skip


def test_shares_and_tails_of_the_training_images() -> None:
    images = blobs(400).images
    sizes = np.bincount(images.labels)
    tenth = image_classifier.chosen_images(plan_of(**probes.image_linear(labels=0.1)), images)
    assert np.bincount(images.labels[tenth]).tolist() == [round(0.1 * size) for size in sizes]
    fifth = image_classifier.chosen_images(plan_of(**probes.image_linear(labels=0.2)), images)
    assert set(tenth) < set(fifth)
    tail = image_classifier.chosen_images(plan_of(**probes.image_linear(tail=27.0)), images)
    left = np.sort(np.bincount(images.labels[tail]) / sizes)[::-1]
    np.testing.assert_allclose(left, [1, 1 / 3, 1 / 9, 1 / 27], atol=0.02)


@pytest.mark.parametrize(("size", "view"), [((60, 40), "crop"), ((40, 90), "crop"), ((60, 40), "whole")])
def test_pictures_become_squares(tmp_path: Path, size: tuple[int, int], view: str) -> None:
    pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_square(tmp_path / "a.png", ImagePlan("svm", 224, view, "mean"))
    scale = 256 / min(size)
    larger = Image.fromarray(pixels).resize((int(size[0] * scale), int(size[1] * scale)), Image.Resampling.BILINEAR)
    if view == "whole":
        expected = larger.resize((224, 224), Image.Resampling.BILINEAR)
    else:
        left, top = round((larger.width - 224) / 2), round((larger.height - 224) / 2)
        expected = larger.crop((left, top, left + 224, top + 224))
    assert np.array_equal(found, np.asarray(expected))


def test_windows_leave_out_one_row_and_column() -> None:
    cells = torch.rand(2, 3, 7, 7)
    expected = [cells[:, :, i : i + 6, j : j + 6].mean((2, 3)) for i in (0, 1) for j in (0, 1)]
    found = pool(ImagePlan("svm", 224, "whole", "windows"), cells).reshape(2, 3, 4)
    torch.testing.assert_close(found, torch.stack(expected, 2))
    torch.testing.assert_close(pool(ImagePlan("svm", 224, "crop", "mean"), cells), cells.mean((2, 3)))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder tree of two classes that differ in color; each has its own size."""
    root = tmp_path_factory.mktemp("tree")
    for part, count in (("train", 6), ("val", 3)):
        for label, name in enumerate(("n01", "n02")):
            folder = root / "imagenet" / part / name
            folder.mkdir(parents=True)
            for i in range(count + 4 * label):
                pixels = np.random.default_rng([label, i, count]).integers(0, 120, (40, 50, 3)).astype(np.uint8)
                pixels[:, :, label] += 120
                Image.fromarray(pixels).save(folder / f"{name}_{i}.JPEG")
    (root / "imagenet/train-10percent.txt").write_text("train/n01/n01_3.JPEG\ntrain/n01/n01_1.JPEG\n" * 1)
    return root


def run(protocol: str, root: Path, folder: Path, **plan: Any) -> Result:
    loaded = load_protocol(protocol)
    loaded = replace(loaded, plan=replace(loaded.plan, **plan))
    checkpoint = import_checkpoint("random:resnet18:0", name="random", work=folder)
    reference = check(root, loaded.dataset).reference()
    return run_probe(loaded, checkpoint, root, reference, 0, folder / "transfers" / protocol)


def test_folders_are_classes(tree: Path, tmp_path: Path) -> None:
    images = classified_images(tree, "imagenet", "train")
    assert images.classes == ("n01", "n02") and images.labels.tolist() == [0] * 6 + [1] * 10
    assert images.names[0] == "train/n01/n01_0.JPEG"
    result = run("frozen_in1k_linear_tail", tree, tmp_path)
    assert result.probe is not None and result.probe.channels == 512 and result.probe.head_parameters == 2 * 513
    assert result.metrics["top-1"] == 100 and result.standard_errors["top-1"] == 0
    used = (tmp_path / "transfers/frozen_in1k_linear_tail" / LABELLED).read_text().split()
    assert len(used) == result.probe.training_cells < 16
    neighbors = run("frozen_in1k_knn", tree, tmp_path)
    assert neighbors.metrics["top-1 k=10"] == neighbors.metrics["top-1"] and neighbors.dataset == result.dataset
    assert len(list((tmp_path / "features").iterdir())) == 2  # vectors are computed once for both


def test_names_of_files_need_not_be_utf_8(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "data")
    for file in (tmp_path / "data" / "imagenet").rglob("*_[01].JPEG"):
        file.rename(file.with_name(os.fsdecode(b"\xe9" + os.fsencode(file.name))))
    result = run("frozen_in1k_linear_tail", tmp_path / "data", tmp_path)
    folder = tmp_path / "transfers" / "frozen_in1k_linear_tail"
    listed = [os.fsdecode(line) for line in (folder / LABELLED).read_bytes().splitlines()]
    known = classified_images(tmp_path / "data", "imagenet", "train").names
    assert set(listed) < set(known) and any("\udce9" in name for name in listed)
    assert result.probe is not None and len(listed) == result.probe.training_cells
    assert read_shares(folder / SHARES).names == classified_images(tmp_path / "data", "imagenet", "val").names


def test_what_is_wrong_with_a_tree_is_named(tree: Path, tmp_path: Path) -> None:
    assert not check(tree, "imagenet").errors
    assert "two classes or more" in check(tree, "imagenet-10percent").errors[0]
    assert "data prepare" in check(tree, "imagenet-lt").errors[0]
    (tmp_path / "imagenet/train/a").mkdir(parents=True)
    (tmp_path / "imagenet/train-1percent.txt").write_text("../secret.jpg\n")
    assert "no path below imagenet/" in " ".join(check(tmp_path, "imagenet-1percent").errors)
    assert "no image below imagenet/train" in " ".join(check(tmp_path, "imagenet").errors)
    with pytest.raises(BenchError, match="coco2017 has no classes of images"):
        classified_images(tree, "coco2017", "train")


def test_voc_is_classified_from_its_objects(tiny_data: Path, tmp_path: Path) -> None:
    images = classified_images(tiny_data, "voc2012_det", "val")
    assert images.labels.shape == (len(images.paths), 20) and set(np.unique(images.labels)) <= {-1, 0, 1}
    result = run("frozen_voc12_low_shot", tiny_data, tmp_path, shots=(1, 2), costs=(0.1, 1.0), samples=2)
    assert 0 < result.metrics["mAP"] <= 100 and {"mAP k=1", "mAP k=2"} < result.standard_errors.keys()
    result = run("frozen_voc12_svm", tiny_data, tmp_path, costs=(0.1, 1.0))
    assert result.probe is not None and result.probe.channels == 2048 and result.probe.candidates.keys() == {"0.1", "1"}
    assert {svm.COSTS, "shares.npz"} < result.outputs.keys() and 0 < result.metrics["mAP 11-point"] <= 100
    with pytest.raises(BenchError, match="can have several classes"):
        image_classifier.probe(plan_of(**probes.image_knn()), material_of(tiny_data, tmp_path))


def material_of(root: Path, folder: Path) -> image_classifier.ImageMaterial:
    from bench.probes.cells import freeze
    from pretrain.exported import read_exported

    checkpoint = import_checkpoint("random:resnet18:0", name="random", work=folder)
    return image_classifier.ImageMaterial(
        freeze(read_exported(checkpoint), CPU), root, "voc2012_det", "0" * 64, folder / "other", 0
    )
