"""Made-up results for the tests of this room."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from leaderboard.records import (
    RANDOM_METHOD,
    Card,
    DatasetReference,
    Environment,
    Operations,
    Pretraining,
    ProbeReport,
    ProtocolReference,
    Result,
    Source,
    TrainingReport,
    result_key,
)
from leaderboard.records.migrations import protocol_words

METHODS = {"random": RANDOM_METHOD, "moco": "MoCo v2", "densecl": "DenseCL"}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_card(name: str = "moco", **fields: Any) -> Card:
    values: dict[str, Any] = {
        "schema_version": 2,
        "name": name,
        "method": METHODS.get(name, name),
        "architecture": "resnet18",
        "stem": "7x7",
        "norm": "BN",
        "stride_style": "pytorch",
        "color_order": "RGB",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "parameters": 11_176_512,
        "sha256": sha(f"weights of {name}"),
        "pretraining": Pretraining.known(
            recipe=f"{name}-mini", data="generated", images=2000, epochs=40, effective_batch=64, image_views=160_000,
            resolution=96, seed=0, labels="none",
        ),
        "source": Source(
            format="densebench", file=f"{name}.safetensors", sha256=sha(f"file of {name}"), key_prefix=""
        ),
        "license": "Apache-2.0",
        "code_commit": "0123456789abcdef",
    }  # fmt: skip
    return Card(**{**values, **fields})


def make_protocol(id_: str = "mini_voc_seg_fcn", **fields: Any) -> ProtocolReference:
    values: dict[str, Any] = {
        "id": id_,
        "title": f"The protocol {id_}",
        "short_title": protocol_words(id_, "mini"),
        "version": 1,
        "sha256": sha(f"protocol {id_} {fields.get('version', 1)}"),
        "track": "mini",
        "task": "semantic segmentation" if "seg" in id_ else "detection",
        "dataset": "voc2012_seg",
        "headline": "mIoU" if "seg" in id_ else "AP",
    }
    return ProtocolReference(**{**values, **fields})


def make_result(
    card: Card | str = "moco",
    protocol: ProtocolReference | str = "mini_voc_seg_fcn",
    seed: int = 0,
    value: float | None = 50.0,
    *,
    data: str = "data",
    classes: tuple[str, ...] | None = None,
    metrics: Mapping[str, float] | None = None,
    **fields: Any,
) -> Result:
    """A result with `value` as its headline metric; `None` makes it a failed one."""
    card = make_card(card) if isinstance(card, str) else card
    protocol = make_protocol(protocol) if isinstance(protocol, str) else protocol
    dataset = DatasetReference(
        name=protocol.dataset,
        fingerprint=sha(f"{data} {protocol.dataset}"),
        train_images=300,
        val_images=100,
        classes=classes,
    )
    values: dict[str, Any] = {
        "schema_version": 2,
        "key": result_key(card.sha256, protocol.sha256, dataset.fingerprint, seed),
        "card": card,
        "protocol": protocol,
        "dataset": dataset,
        "seed": seed,
        "status": "failed" if value is None else "finished",
        "failure": "loss is not finite at iteration 12" if value is None else None,
        "metrics": {} if value is None else {protocol.headline: value, "extra": value / 2, **(metrics or {})},
        "training": TrainingReport(
            planned_iterations=60, executed_iterations=12 if value is None else 60, batch_size=16, learning_rate=0.01,
            images_seen=960, backbone_tensors=120, trainable_parameters=12_000_000, frozen_parameters=0,
            head_parameters=800_000,
        ),
        "standard_errors": {} if value is None else {"extra": 0.5},
        "probe": None,
        "operations": Operations(height=96, width=96, backbone=660_000_000, head=40_000_000),
        "environment": Environment(
            device="CPU, 2 threads", precision="fp32", threads=2, python="3.11.9",
            packages={"torch": "2.15.0", "onedl-mmsegmentation": "1.4.2"}, code_commit="0123456789abcdef",
        ),
        "verification": "self-reported",
        "sweep": None,
        "outputs": {},
        "finished_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(minutes=seed),
        "wall_seconds": 71.5 + seed,
        "seconds": {"data": 10.0, "forward_backward": 50.0, "evaluation": 11.5},
        "peak_memory_mib": 900.0,
    }  # fmt: skip
    return Result(**{**values, **fields})


PROBE = make_protocol("frozen_voc_seg_linear", track="frozen", short_title="VOC seg linear")


def make_probe(
    card: Card | str = "moco",
    value: float = 50.0,
    error: float = 0.5,
    protocol: ProtocolReference = PROBE,
    **fields: Any,
) -> Result:
    """The result of a probe: one run, with a standard error over 100 validation images."""
    probe = ProbeReport(
        backbone_tensors=120, head_parameters=16_149, channels=768, training_cells=20_000, images_evaluated=100,
        chosen=0.003, candidates={"0.003": 40.5, "0.03": 39.0},
    )  # fmt: skip
    values: dict[str, Any] = {"training": None, "probe": probe, "standard_errors": {"mIoU": error}}
    return make_result(card, protocol, 0, value, **(values | fields))


def make_results(
    values: Mapping[str, Mapping[str, Sequence[float | None]]],
) -> list[Result]:
    """Results from `{submission: {protocol id: headline metric of seed 0, 1, ...}}`."""
    return [
        make_result(name, protocol, seed, value)
        for name, protocols in values.items()
        for protocol, seeds in protocols.items()
        for seed, value in enumerate(seeds)
    ]
