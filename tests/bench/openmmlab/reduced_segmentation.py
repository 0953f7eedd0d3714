"""The segmentation protocols of track paper, cut to what a CPU trains in seconds: the same model, steps and schedule
on smaller images, in fewer and smaller batches.
"""

from typing import Any

from short_protocols import changed

from bench.protocols import Protocol, load_protocol

PAPER_SEGMENTATION = ("paper_voc12aug_seg_fcn_d8_20k", "paper_city_seg_fcn_d8_40k")

DILATION_6 = tuple(
    f"paper_{name}"
    for name in (
        "voc12aug_seg_fcn_moco_30k",
        "city_seg_fcn_moco_90k",
        "voc12aug_seg_fcn_r2o_30k",
        "city_seg_fcn_r2o_160e",
    )
)
"""Those of output stride 16 with a head of dilation 6, whose rate falls in steps."""


def reduced(protocol_id: str, *, short_side: int = 64, crop: int = 49, batch: int = 2, iterations: int = 2) -> Protocol:
    """The protocol with `iterations` of `batch` crops of `crop` pixels, from images of `short_side` at ratio 1."""

    def cut(config: dict[str, Any]) -> None:
        config["protocol"]["plan"] |= {"batch_size": batch, "iterations": iterations}
        config["train_cfg"]["max_iters"] = config["param_scheduler"][0]["end"] = iterations
        if milestones := config["param_scheduler"][0].get("milestones"):
            milestones[:] = range(iterations - len(milestones), iterations)
        train, test = config["train_dataloader"], config["test_dataloader"]
        train["batch_size"] = batch
        steps = {step["type"]: step for loader in (train, test) for step in loader["dataset"]["pipeline"]}
        for step in (steps[name] for name in ("Resize", "RandomResize") if name in steps):
            long_side, short = step["scale"]
            step["scale"] = (long_side * short_side // short, short_side)
        config["model"]["data_preprocessor"]["size"] = steps["RandomCrop"]["crop_size"] = (crop, crop)
        if config["model"]["test_cfg"]["mode"] == "slide":
            config["model"]["test_cfg"] |= {"crop_size": (crop, crop), "stride": (2 * crop // 3, 2 * crop // 3)}

    return changed(load_protocol(protocol_id), cut)
