"""Small images with one class each, protocols of whole images that are cut down to them, and runs that are killed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from short_protocols import changed

from bench.openmmlab import prepare_openmmlab
from bench.openmmlab.build import build_model, resolve
from bench.protocols import Protocol, load_protocol
from pretrain.exported import read_exported
from pretrain.nets.architectures import build_backbone

CLASSES, TRAIN, VAL = 7, 20, 3
"""Classes, and images of each class in train and in val."""


def classified_folders(root: Path) -> Path:
    """Write `imagenet/{train,val}/CLASS/IMAGE` and a list of 1 % below `root`, and return it."""
    rng = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("val", VAL)):
        for label in range(CLASSES):
            folder = root / "imagenet" / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / f"{part}{label}-{i}.png")
    listed = [path.relative_to(root / "imagenet") for path in sorted((root / "imagenet" / "train").glob("*/*1.png"))]
    (root / "imagenet" / "train-1percent.txt").write_text("".join(f"{path}\n" for path in listed))
    return root


def small(protocol_id: str, iterations: int = 4, side: int = 32, batch: int = 4) -> Protocol:
    """The protocol with a few iterations of a few small images; the rates fall as they do at full size."""

    def cut(config: dict[str, Any]) -> None:
        plan, (schedule,) = config["protocol"]["plan"], config["param_scheduler"]
        plan |= {"batch_size": batch, "iterations": iterations}
        config["train_dataloader"]["batch_size"] = batch
        config["train_cfg"]["max_iters"] = schedule["end"] = iterations
        if "milestones" in schedule:
            schedule["milestones"] = [iterations - 2, iterations - 1]
        else:
            schedule["every"] = 1
            plan["final_learning_rate"] = plan["learning_rate"] * np.sin(np.pi / iterations / 2).item() ** 2
        for loader in ("train_dataloader", "test_dataloader"):
            config[loader]["dataset"]["pipeline"][1]["side"] = side

    return changed(load_protocol(protocol_id), cut)


def build(protocol: Protocol, data: Path, folder: Path, architecture: str = "") -> tuple[Any, dict[str, Any]]:
    """The protocol's model with the backbone exported to `folder`, or with that of another architecture; its config."""
    exported = read_exported(folder)
    card, tensors = exported.card, dict(exported.tensors)
    if architecture:
        card = card.model_copy(update={"architecture": architecture})
        tensors = {name: value.contiguous() for name, value in build_backbone(architecture).state_dict().items()}
    config = resolve(protocol, card, data)
    return build_model(config, tensors, seed=0), config


def loaded(dataset: dict[str, Any], count: int = 5) -> list[Any]:
    """Every third image of a data set, as its pipeline gives it."""
    prepare_openmmlab()
    from mmengine.config import ConfigDict
    from mmengine.registry import DATASETS

    built = DATASETS.build(ConfigDict(copy.deepcopy(dataset)))
    return [built[3 * i] for i in range(count)]
