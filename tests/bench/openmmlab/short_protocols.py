"""Small inputs for the tests of whole runs: protocols cut to a few iterations, checkpoints, data."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.checkpoints import random_backbone
from bench.config_data import hash_config
from bench.protocols import Protocol, TrainingPlan, load_protocol
from leaderboard.records import Card, DatasetReference
from pretrain.exported import read_card

IDS = ("mini_voc_det_frcnn_fpn", "mini_voc_seg_fcn", "mini_coco_mrcnn_fpn", "mini_city_seg_fcn")
SEGMENTATION = ("mini_voc_seg_fcn", "mini_city_seg_fcn")
DETECTION = ("mini_voc_det_frcnn_fpn", "mini_coco_mrcnn_fpn")

RATE = 0.01


def changed(protocol: Protocol, change: Callable[[dict[str, Any]], None]) -> Protocol:
    """The protocol with a config that `change` has edited in place."""
    config = copy.deepcopy(dict(protocol.config))
    change(config)
    return dataclasses.replace(
        protocol, config=config, plan=TrainingPlan(**config["protocol"]["plan"]), sha256=hash_config(config)
    )


def short(protocol_id: str, iterations: int = 2, rate: float = RATE) -> Protocol:
    """The protocol with `iterations` iterations of two images at a constant learning rate.

    A rate of the head keeps its ratio to that of the backbone.
    """

    def cut(config: dict[str, Any]) -> None:
        plan = config["protocol"]["plan"]
        plan |= {name: plan[name] * rate / plan["learning_rate"] for name in plan.keys() & {"head_learning_rate"}}
        plan |= {
            "batch_size": 2,
            "iterations": iterations,
            "learning_rate": rate,
            "final_learning_rate": rate,
        }
        config["train_dataloader"]["batch_size"] = 2
        config["train_cfg"]["max_iters"] = iterations
        config["optim_wrapper"]["optimizer"]["lr"] = rate
        config["param_scheduler"] = [{"type": "ConstantLR", "factor": 1.0, "by_epoch": False}]

    return changed(load_protocol(protocol_id), cut)


def reference(protocol: Protocol) -> DatasetReference:
    return DatasetReference(name=protocol.dataset, fingerprint="0" * 64, train_images=8, val_images=4, classes=None)


def checkpoint(work: Path, architecture: str = "resnet18", seed: int = 0, **fields: Any) -> Path:
    """A random backbone's folder; `fields` change its card."""
    folder = random_backbone(architecture, seed=seed, name=f"random-{architecture}-{seed}", work=work)
    if fields:
        card = Card.model_validate(read_card(folder).model_dump() | fields)
        (folder / "card.json").write_text(card.to_json())
    return folder
