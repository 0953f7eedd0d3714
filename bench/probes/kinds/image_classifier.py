"""A classifier of whole images with one class each, on the frozen backbone's vectors.

`image_linear`  multinomial logistic regression of standardized vectors, by at most `iterations` steps of L-BFGS
`image_knn`     the vote of the nearest training images by cosine similarity s, with weights exp(s / temperature), of
                Wu et al. (CVPR 2018, arXiv 1805.01978); vectors are scaled to unit length and not standardized

The hyperparameter is chosen by top-1 on held-out training images, then all training images are used. Vectors are read
from their file block by block, so that data sets of any size fit into memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.datasets.classified import ClassifiedImages
from bench.datasets.shares import LABELLED, take_share
from bench.errors import BenchError
from bench.metrics.classification import accuracy, class_metrics, top_correct
from bench.metrics.uncertainty import Floats
from bench.probes.classifiers import QUERIES
from bench.probes.images import ImageMaterial, ImagePart
from bench.probes.material import Findings, hold_out
from bench.probes.plans import ImageClassifierPlan

BLOCK = 65_536
"""Number of vectors in memory at once; it changes nothing but rounding."""

Rows = NDArray[np.int64]
Scores = Callable[[ImagePart, Rows], Sequence[Floats]]
"""Function from images, by their rows, to scores of the classes (n, K), one table per candidate."""


def probe(plan: ImageClassifierPlan, material: ImageMaterial) -> Findings:
    """Top-1, top-5 and mean class accuracy of the validation images; of many-, medium- and few-shot classes, too, where
    there are such; and of nearest neighbors top-1 with each number of them.

    Raises:
        BenchError: an image cannot be read, images can have several classes, or there are too few.
    """
    train, val = material.part(plan, "train"), material.part(plan, "val")
    if train.images.labels.ndim > 1:
        raise BenchError(f"the images of {material.dataset} can have several classes: a probe of kind svm takes them")
    material.clock.lap("features")
    used = chosen_images(plan, train.images)
    labels, device = train.images.labels, material.network.device
    classes = len(train.images.classes)
    fitted, held = hold_out(len(used), min(plan.held_out, plan.held_out_most / len(used)), material.seed)
    scores = fit(plan, train, used[fitted], plan.candidates, device)
    found = [top_correct(table, labels[used[held]], 1).mean() for table in scores(train, used[held])]
    candidates = {value: 100 * float(score) for value, score in zip(plan.candidates, found, strict=True)}
    chosen = max(candidates, key=candidates.__getitem__)  # the first of equal ones
    last = plan.candidates if plan.kind == "image_knn" else (chosen,)
    scores = fit(plan, train, used, last, device)
    material.clock.lap("fit")
    tables = dict(zip(last, scores(val, np.arange(len(val.images.paths))), strict=True))
    shots = np.bincount(labels[used], minlength=classes)
    measured = class_metrics(tables[chosen], val.images.labels, shots)
    if plan.kind == "image_knn":
        for value, table in tables.items():
            measured[f"top-1 k={value:g}"] = accuracy(top_correct(table, val.images.labels, 1))
    material.clock.lap("evaluation")
    return Findings(
        metrics={name: value for name, (value, _) in measured.items()},
        shares={name: shares for name, (_, shares) in measured.items()},
        images=len(val.images.paths),
        training_cells=len(used),
        arrays={"labels": val.images.labels, "predicted": tables[chosen].argmax(1)},
        chosen=chosen,
        candidates=candidates,
        channels=train.vectors.shape[1],
        head_parameters=0 if plan.kind == "image_knn" else (train.vectors.shape[1] + 1) * classes,
        files={LABELLED: "".join(f"{train.images.names[i]}\n" for i in used)} if len(used) < len(labels) else {},
    )


def chosen_images(plan: ImageClassifierPlan, images: ClassifiedImages) -> Rows:
    """Rows, ascending, of the training images that are used, at least two of each class that has them; see
    `ImageClassifierPlan.labels` and `tail`."""
    order = np.argsort(images.labels, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(images.labels, minlength=len(images.classes)))[:-1])
    digests = [hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest() for name in images.classes]
    rank = {label: place for place, label in enumerate(sorted(range(len(digests)), key=digests.__getitem__))}
    steps = max(len(images.classes) - 1, 1)
    rows = [
        group[take_share([images.names[i] for i in group], plan.labels * plan.tail ** (-rank[label] / steps))]
        for label, group in enumerate(groups)
    ]
    return np.sort(np.concatenate(rows))


def fit(
    plan: ImageClassifierPlan, train: ImagePart, rows: Rows, candidates: Sequence[float], device: torch.device
) -> Scores:
    """The classifier of some training images, with each of `candidates`."""
    if plan.kind == "image_knn":
        counts = [int(count) for count in candidates]
        return lambda part, asked: vote(train, rows, part, asked, counts, plan.options["temperature"], device)
    mean, std = scaling(train, rows)
    solved = [
        fit_linear(train, rows, (mean, std), value, int(plan.options["iterations"]), device) for value in candidates
    ]

    def scores(part: ImagePart, asked: Rows) -> list[Floats]:
        tables: list[list[Floats]] = [[] for _ in solved]
        for _, x in _blocks(part, asked, device):
            scaled = (x - mean.to(x)) / std.to(x)
            for table, (weight, bias) in zip(tables, solved, strict=True):
                table.append((scaled @ weight.T + bias).double().cpu().numpy())
        return [np.concatenate(table) for table in tables]

    return scores


def scaling(part: ImagePart, rows: Rows) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of the vectors in float64; that of a constant channel is 1e-6."""
    cpu = torch.device("cpu")
    mean = sum((x.double().sum(0) for _, x in _blocks(part, rows, cpu)), torch.zeros(part.vectors.shape[1])) / len(rows)
    squares = sum((((x.double() - mean) ** 2).sum(0) for _, x in _blocks(part, rows, cpu)), torch.zeros_like(mean))
    return mean, (squares / len(rows)).sqrt().clamp(min=1e-6)


def fit_linear(
    part: ImagePart, rows: Rows, scale: tuple[Tensor, Tensor], penalty: float, iterations: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Weights (K, D) and biases (K,) that minimize the mean cross entropy plus `penalty` / 2 times the squared weights.

    Vectors are standardized by `scale`. The problem is convex; L-BFGS with a line search takes at most `iterations`
    steps, each of which reads all vectors once or a few times.
    """
    mean, std = (value.to(device, torch.float32) for value in scale)
    labels = torch.from_numpy(part.images.labels[rows]).to(device)
    weight = torch.zeros(len(part.images.classes), len(mean), device=device, requires_grad=True)
    bias = torch.zeros(len(weight), device=device, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        total = penalty / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        for start, x in _blocks(part, rows, device):
            logits = (x - mean) / std @ weight.T + bias
            loss = cross_entropy(logits, labels[start : start + len(x)], reduction="sum") / len(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        return total

    solver.step(objective)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def vote(
    train: ImagePart,
    rows: Rows,
    part: ImagePart,
    asked: Rows,
    counts: Sequence[int],
    temperature: float,
    device: torch.device,
) -> list[Floats]:
    """Scores (n, K), each the share of the votes of the nearest images of the training images `rows`, for each of
    `counts`; where there are fewer images, all vote."""
    most = min(max(counts), len(rows))
    labels = torch.from_numpy(train.images.labels[rows]).to(device)
    tables: list[list[Floats]] = [[] for _ in counts]
    for start in range(0, len(asked), QUERIES):
        queries = normalize(torch.from_numpy(part.take(asked[start : start + QUERIES])).to(device), dim=1)
        best = queries.new_full((len(queries), 0), 0.0)
        where = torch.zeros(len(queries), 0, dtype=torch.int64, device=device)
        for first, x in _blocks(train, rows, device):
            similarity = queries @ normalize(x, dim=1).T
            own = torch.arange(first, first + len(x), device=device).expand(len(queries), -1)
            best, order = torch.cat([best, similarity], 1).topk(min(most, best.shape[1] + len(x)), 1)
            where = torch.cat([where, own], 1).gather(1, order)
        weights = ((best - best[:, :1]) / temperature).double().exp()
        for table, count in zip(tables, counts, strict=True):
            votes = weights.new_zeros(len(queries), len(train.images.classes))
            votes.scatter_add_(1, labels[where[:, :count]], weights[:, :count])
            table.append((votes / votes.sum(1, keepdim=True)).cpu().numpy())
    return [np.concatenate(table) for table in tables]


def _blocks(part: ImagePart, rows: Rows, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Blocks of vectors (n, D) with the position of each block's first one in `rows`."""
    for start in range(0, len(rows), BLOCK):
        yield start, torch.from_numpy(part.take(rows[start : start + BLOCK])).to(device)
