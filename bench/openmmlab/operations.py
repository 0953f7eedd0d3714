"""Counts the floating-point operations of a protocol's model for one image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bench.operations import black, count
from leaderboard.records import Operations


def count_operations(model: Any, config: Mapping[str, Any]) -> Operations:
    """Operations of a protocol's model (a `torch.nn.Module`), built from its resolved `config`, in evaluation.

    A two-stage detector's heads are counted for the most regions that its protocol keeps, so that the number does not
    depend on weights and images; what computes a region's features (`layer4` of a C4 detector) is among them. An
    auxiliary head, which serves training alone, does not count.
    """
    height, width = _size(config)
    image, training = black(model, height, width), model.training
    model.eval()
    maps: list[Any] = []
    backbone = count(lambda: maps.extend(model.backbone(image)))
    head = count(lambda: _all_but_the_backbone(model, maps))
    model.train(training)
    return Operations(height=height, width=width, backbone=backbone, head=head)


def _all_but_the_backbone(model: Any, maps: list[Any]) -> None:
    levels = model.neck(maps) if model.with_neck else maps
    if hasattr(model, "decode_head"):
        model.decode_head(levels)
    elif hasattr(model, "bbox_head"):
        model.bbox_head(levels)
    elif hasattr(model, "scores"):
        model.scores(levels)
    else:
        model.rpn_head(levels)
        _regions(model, levels[0].device)


def _regions(detector: Any, device: torch.device) -> None:
    """Run the heads of a detector on as many regions as it keeps."""
    heads = detector.roi_head
    kinds = [(heads.bbox_head, heads.bbox_roi_extractor, detector.test_cfg.rpn.max_per_img)]
    if heads.with_mask:
        extractor = heads.mask_roi_extractor or heads.bbox_roi_extractor
        kinds.append((heads.mask_head, extractor, detector.test_cfg.rcnn.max_per_img))
    for head, extractor, most in kinds:
        regions = torch.zeros(most, extractor.out_channels, *extractor.roi_layers[0].output_size, device=device)
        head(heads.shared_head(regions) if heads.with_shared_head else regions)


def _size(config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the image: a segmenter's crop in training, a classifier's square, or the largest image of a
    detector in evaluation, whose long side is its width, padded."""
    preprocessor = config["model"]["data_preprocessor"]
    if "size" in preprocessor:
        height, width = preprocessor["size"]
        return int(height), int(width)
    pipeline = config["test_dataloader"]["dataset"]["pipeline"]
    side = next((step["side"] for step in pipeline if "side" in step), None)
    if side is not None:
        return int(side), int(side)
    scale = next(step["scale"] for step in pipeline if "scale" in step)
    divisor = preprocessor.get("pad_size_divisor", 1)
    return -(-min(scale) // divisor) * divisor, -(-max(scale) // divisor) * divisor
