"""What a frozen backbone's cells tell a linear classifier about their class, beside random initialisation.

    python -m bench.probes.frozen densebench-work/pretraining/*/export --data ROOT

A quick look at many backbones, half a minute each on one CPU core; the protocols of `densebench submit` are what
results are made of. Images are scaled to `SIZE`. A cell is described by C4 and C5 at stride 16, C5 upsampled, each
channel with mean 0 and variance 1 over the training cells, and labelled by the pixel at its centre. The classifier is
multinomial logistic regression with a squared penalty, solved by L-BFGS: no draw decides its outcome. Its logits are
upsampled to the images and scored by mIoU over all validation pixels.

The difference to random initialisation is the one to the mean of `RANDOM_SEEDS` random networks of the architecture;
its 95 % interval comes from drawing validation images with replacement, the same for both sides.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from cyclopts import Parameter, run
from PIL import Image
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from bench.benchmarks.rounds import in_words, machine, output, start
from bench.checkpoints import import_checkpoint
from bench.datasets.check import DATASETS, check
from bench.datasets.names import VOID
from bench.errors import BenchError
from bench.metrics.segmentation import confusion_matrix, segmentation_scores
from pretrain.data.pictures import open_picture
from pretrain.exported import read_exported
from pretrain.nets.resnet import ResNet
from pretrain.run.processes import process_group

SIZE = (192, 256)
"""Height and width of the images in pixels."""
STRIDE = 16
PENALTY = 1e-2
"""Half of it times the squared weights is added to the mean cross entropy of the cells."""
ITERATIONS = 40
CHUNK = 32
"""Images that pass through the network at once."""
RANDOM_SEEDS = (0, 1, 2)
PROBED = ("voc2012_seg", "cityscapes")
"""Data sets with a mask for every image."""
DRAWS = 1000

Precision = Literal["fp32", "bf16"]


class Labelled(NamedTuple):
    """A split in memory."""

    names: list[str]
    pixels: Tensor
    """uint8 (N, 3, H, W)."""
    labels: Tensor
    """uint8 (N, H, W); 255 does not count."""


class Loaded(NamedTuple):
    """A backbone in evaluation mode, and what it expects its input to be normalised by."""

    architecture: str
    backbone: ResNet
    mean: Tensor
    std: Tensor


class Probe(NamedTuple):
    """A backbone's outcome on one data set."""

    counts: np.ndarray[Any, np.dtype[np.int64]]
    """Confusion matrix of each validation image (V, K, K)."""
    seconds: float

    @property
    def miou(self) -> float:
        """In per cent, over the whole validation set."""
        return segmentation_scores(self.counts.sum(0)).miou


def read_splits(root: Path, dataset: str) -> dict[str, Labelled]:
    """Train and val of a segmentation data set, scaled to `SIZE` (labels by the nearest pixel).

    Raises `BenchError` if the data set has errors.
    """
    report = check(root, dataset)
    report.require()
    height, width = SIZE
    splits = {}
    for name, split in report.splits.items():
        pixels, labels = [], []
        masks = [path for path in split.annotations if path.suffix == ".png"]  # the others are lists of ids
        for image, mask in zip(split.images, masks, strict=True):
            with open_picture(image) as picture:
                scaled = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            pixels.append(torch.from_numpy(np.array(scaled)).permute(2, 0, 1))
            with open_picture(mask) as picture:
                labels.append(torch.from_numpy(np.array(picture.resize((width, height), Image.Resampling.NEAREST))))
        splits[name] = Labelled([path.name for path in split.images], torch.stack(pixels), torch.stack(labels))
    return splits


@torch.no_grad()
def cell_features(network: Loaded, pixels: Tensor, precision: Precision = "fp32") -> Tensor:
    """C4 and C5 side by side, float32 (N, C, H / 16, W / 16), of uint8 images (N, 3, H, W), on the network's device."""
    mean, std = network.mean[:, None, None], network.std[:, None, None]
    parts = []
    for chunk in torch.split(pixels, CHUNK):
        x = (chunk.to(mean.device).float() / 255 - mean) / std
        with torch.autocast(mean.device.type, torch.bfloat16, enabled=precision == "bf16"):
            c4, c5 = (c.float() for c in network.backbone.features(x)[2:])
        parts.append(torch.cat([c4, interpolate(c5, c4.shape[2:], mode="bilinear")], 1))
    return torch.cat(parts)


def fit(x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights (K, C) and biases (K,) of the logistic regression of labels (n,) on rows (n, C)."""
    weight = x.new_zeros(classes, x.shape[1], requires_grad=True)
    bias = x.new_zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        loss = cross_entropy(x @ weight.T + bias, y) + PENALTY / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(objective)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def probe(network: Loaded, splits: Mapping[str, Labelled], precision: Precision = "fp32") -> Probe:
    """Fit the classifier on the training cells and score the validation images."""
    began = time.perf_counter()
    train, val = splits["train"], splits["val"]
    classes = 1 + int(train.labels[train.labels != VOID].max())
    x = cell_features(network, train.pixels, precision)
    centre, spread = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True).clamp(min=1e-6)
    rows = ((x - centre) / spread).permute(0, 2, 3, 1).flatten(0, 2)
    y = train.labels[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].flatten().long().to(rows.device)
    weight, bias = fit(rows[y != VOID], y[y != VOID], classes)

    counts = []
    x = (cell_features(network, val.pixels, precision) - centre) / spread
    for name, cells, label in zip(val.names, x, val.labels, strict=True):
        logits = torch.einsum("chw,kc->khw", cells, weight) + bias[:, None, None]
        chosen = interpolate(logits[None], SIZE, mode="bilinear")[0].argmax(0)
        counts.append(confusion_matrix(label.numpy(), chosen.cpu().numpy(), classes, name))
    return Probe(np.stack(counts), time.perf_counter() - began)


def difference(found: Probe, random: list[Probe], seed: int = 0) -> tuple[float, float, float]:
    """mIoU less the mean of `random`'s in points, and the ends of its 95 % interval."""
    draws = np.random.default_rng(seed).multinomial(n := len(found.counts), np.full(n, 1 / n), size=DRAWS)

    def resampled(one: Probe) -> np.ndarray[Any, np.dtype[np.float64]]:
        matrices = np.einsum("dv,vij->dij", draws, one.counts)
        return np.array([segmentation_scores(matrix).miou for matrix in matrices])

    drawn = resampled(found) - np.mean([resampled(one) for one in random], axis=0)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return found.miou - float(np.mean([one.miou for one in random])), float(low), float(high)


def load(checkpoint: str, device: torch.device) -> Loaded:
    """Import a checkpoint as `densebench submit` does, with its proof, into a folder of its own."""
    with tempfile.TemporaryDirectory() as work:
        exported = read_exported(import_checkpoint(checkpoint, name="probed", work=Path(work)))
    card, backbone = exported.card, exported.build()
    if not isinstance(backbone, ResNet):
        raise BenchError(f"{checkpoint}: the probe reads C4 and C5 of ResNets, not a {card.architecture}")
    if card.color_order != "RGB":
        raise BenchError(f"{checkpoint}: the probe feeds RGB, the backbone expects {card.color_order}")
    mean, std = (torch.tensor(values, device=device) for values in (card.mean, card.std))
    return Loaded(card.architecture, backbone.eval().to(device), mean, std)


def probe_all(
    checkpoints: Sequence[str], root: Path, datasets: Sequence[str], device: torch.device, precision: Precision
) -> list[dict[str, Any]]:
    """A row for each checkpoint and, before them, for the random networks of their architectures."""
    splits = {dataset: read_splits(root, dataset) for dataset in datasets}

    def outcome(loaded: Loaded) -> dict[str, Probe]:
        return {key: probe(loaded, split, precision) for key, split in splits.items()}

    random: dict[str, list[dict[str, Probe]]] = {}
    rows = []
    for checkpoint in checkpoints:
        loaded = load(checkpoint, device)
        if loaded.architecture not in random:
            names = [f"random:{loaded.architecture}:{seed}" for seed in RANDOM_SEEDS]
            found = random[loaded.architecture] = [outcome(load(name, device)) for name in names]
            for name, probes in zip(names, found, strict=True):
                plain = {key: {"miou": one.miou, "seconds": one.seconds} for key, one in probes.items()}
                rows.append({"checkpoint": name} | plain)
        row: dict[str, Any] = {"checkpoint": checkpoint}
        for key, one in outcome(loaded).items():
            over, low, high = difference(one, [probes[key] for probes in random[loaded.architecture]])
            row[key] = {"miou": one.miou, "over_random": over, "low": low, "high": high, "seconds": one.seconds}
        rows.append(row)
    return rows


def main(
    checkpoints: Annotated[list[str], Parameter(negative="")],
    /,
    *,
    data: Path,
    dataset: Annotated[list[str] | None, Parameter(negative="")] = None,
    precision: Precision = "fp32",
    threads: int | None = None,
    device: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Probe frozen backbones beside random initialisation.

    Example: python -m bench.probes.frozen moco/export densecl/export --data ROOT

    Parameters
    ----------
    checkpoints
        Checkpoint files or folders written by `densebench export`; ResNets.
    data
        The data root.
    dataset
        voc2012_seg or cityscapes; may be repeated (default: those that lie in the data root).
    precision
        Of the forward pass; the classifier is solved in fp32.
    threads
        CPU threads (default: all cores).
    device
        cuda or cpu (default: cuda where there is one).
    as_json
        Print JSON.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = dataset or [key for key in PROBED if (data / DATASETS[key].folder).is_dir()]
    unknown = [key for key in chosen if key not in PROBED]
    if unknown or not chosen:
        what = f"{unknown[0]} cannot be probed" if unknown else f"{data} holds no data set to probe"
        raise BenchError(f"{what}: the probe reads {' and '.join(PROBED)}")
    with process_group(device) as process:
        about = machine(process.device, precision)
        rows = probe_all(checkpoints, data, chosen, process.device, precision)
    if as_json:
        print(json.dumps({"machine": about, "data": {key: list(SIZE) for key in chosen}, "rows": rows}, indent=2))
        return
    console = output()
    console.print(in_words(about), markup=False)
    columns = [column for key in chosen for column in (f"{key} mIoU", "over random", "95 % interval", "s")]
    table = Table("", *columns, show_edge=False, pad_edge=False)
    for row in rows:
        cells = []
        for one in (row[key] for key in chosen):
            over = "over_random" in one
            cells += [
                f"{one['miou']:.2f}",
                f"{one['over_random']:+.2f}" if over else "",
                f"{one['low']:+.2f} to {one['high']:+.2f}" if over else "",
                f"{one['seconds']:.0f}",
            ]
        table.add_row(row["checkpoint"], *cells)
    console.print(table)


if __name__ == "__main__":
    start(lambda: run(main))
