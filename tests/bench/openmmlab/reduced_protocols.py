"""Protocols of track paper made small: everything but sizes and counts is as it stands in their files."""

from typing import Any

from short_protocols import changed

from bench.protocols import Protocol, load_protocol

SIZE = 16
"""Images are this many times smaller."""


def reduced(protocol_id: str, iterations: int = 5, batch: int = 2) -> Protocol:
    """The protocol with `iterations` of `batch` small images, few anchors, regions and detections.

    The learning rate is at its peak in the second iteration and drops, as often as it does at full size, in the last.
    """

    def shrink(config: dict[str, Any]) -> None:
        config["protocol"]["plan"] |= {"batch_size": batch, "iterations": iterations}
        if config["protocol"]["plan"].get("precise_bn_images"):
            config["protocol"]["plan"]["precise_bn_images"] = 2 * batch
        config["train_dataloader"]["batch_size"] = batch
        config["train_cfg"]["max_iters"] = iterations
        for scheduler in config["param_scheduler"]:
            if scheduler["type"] == "LinearLR":
                scheduler["end"] = 2
            else:
                drops = len(scheduler["milestones"])
                scheduler |= {"end": iterations, "milestones": list(range(iterations - drops, iterations))}
        for loader in ("train_dataloader", "test_dataloader"):
            _shrink_images(config[loader])
        training, testing = config["model"]["train_cfg"], config["model"]["test_cfg"]
        if "rpn" not in training:  # one stage
            testing |= {"nms_pre": 100, "max_per_img": 10}
            return
        training["rpn"]["sampler"]["num"] = 32
        training["rcnn"]["sampler"]["num"] = 4
        for proposals in (training["rpn_proposal"], testing["rpn"]):
            proposals |= {"nms_pre": 100, "max_per_img": 8}
        testing["rcnn"]["max_per_img"] = 10

    return changed(load_protocol(protocol_id), shrink)


def _shrink_images(part: Any) -> None:
    """Divide every scale of the pipelines in `part`, in place."""
    if isinstance(part, dict):
        if "scale" in part:
            part["scale"] = _smaller(part["scale"])
        if "scales" in part:
            part["scales"] = [_smaller(scale) for scale in part["scales"]]
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            _shrink_images(item)


def _smaller(scale: tuple[int, int]) -> tuple[int, int]:
    return (scale[0] // SIZE, scale[1] // SIZE)
