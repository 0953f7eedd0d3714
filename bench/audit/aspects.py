"""What an audit compares, and what it does to a result when it differs.

The reasons are the findings that the protocols of track `paper` rest on: differences between detectron2 and mmdet, the
two families of heads on COCO, and faults of published configs. Sizes are those that were reported or measured there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Facts = Mapping[str, str]
"""What a config says, one plain text for each aspect that it tells something about."""


@dataclass(frozen=True)
class Aspect:
    """One thing that two configs may do differently."""

    name: str
    decisive: bool
    """Whether results must not stand beside each other where this aspect differs."""
    why: str
    """One sentence that says what a difference does."""


_ALL: Final = (
    Aspect("model", True, "Another detector or head is another protocol."),
    Aspect("backbone", True, "A deeper or wider network is another row, not another method."),
    Aspect("stem", True, "A deep stem (V1c, V1d) has no weights in a checkpoint with the 7x7 stem and stays random."),
    Aspect("stride on", True, "Weights that were trained with the stride on the other convolution do not fit."),
    Aspect("output stride", True, "Stride 8 instead of 16 or 32 changes mIoU by several points."),
    Aspect("frozen stages", True, "Stages that stay frozen favor checkpoints whose early layers suit the task."),
    Aspect("backbone norm", True, "Frozen statistics are those of pretraining; self-supervised networks lose by them."),
    Aspect("neck", True, "Without its batch norm the pyramid belongs to another family of published results."),
    Aspect(
        "box head",
        True,
        "With a pyramid, 4 convolutions with batch norm (family B) give .8 to .9 AP more than 2 linear layers (family "
        "A); res5 as a head needs trained batch norm and one more after it.",
    ),
    Aspect("mask head", True, "Batch norm in the mask head belongs to family B."),
    Aspect("res5 weights", True, "A head on a random res5, as Mask R-CNN C4's base has it, loses several AP."),
    Aspect("decode head", True, "Another head or dilation of it changes mIoU by four to eight points."),
    Aspect("auxiliary head", True, "It is part of the loss, and trains the third stage."),
    Aspect("align corners", False, "It moves the borders of the predicted regions by up to half a cell."),
    Aspect("input", True, "An RGB-pretrained network that sees BGR with std 1 is trained on wrong inputs."),
    Aspect("padding", False, "The statistics of border cells differ."),
    Aspect("low-quality matches", False, "Regions below the overlap of .5 become positive."),
    Aspect("proposals", False, "More or fewer regions are kept in training and testing."),
    Aspect("box loss", False, "Smooth L1 with another beta weighs small errors differently."),
    Aspect("training data", True, "More images, or labels of validation images among them, are another protocol."),
    Aspect("training size", True, "One scale instead of several costs detectors about a point of AP."),
    Aspect("crop", True, "Another crop is another number of pixels seen, and another protocol."),
    Aspect("color changes", False, "It is another augmentation."),
    Aspect("difficult objects", False, "detectron2 trains on them; leaving them out costs up to 2.5 AP50."),
    Aspect("batch", True, "Batch norm and the learning rate depend on it; a smaller one is a row of its own."),
    Aspect("iterations", True, "A longer schedule lifts random initialisation most: 6x reaches the supervised row."),
    Aspect("learning rate", True, "One method gains and another loses by it; it must be the same or chosen alike."),
    Aspect("schedule", True, "A drop that is never reached is another schedule."),
    Aspect("warm-up", False, "It decides whether some checkpoints diverge."),
    Aspect("optimizer", True, "Another optimizer has other best learning rates."),
    Aspect("weight decay", True, "It acts with the learning rate on every layer."),
    Aspect("weight decay of norms", False, "detectron2 has none; mmdet and mmsegmentation have the common one."),
    Aspect("gradient clipping", False, "It hides divergence and slows large gradients."),
    Aspect("precise batch norm", False, "Running statistics lag behind where the learning rate drops."),
    Aspect("starting weights", True, "A detector that was trained with labels leaks them into every row."),
    Aspect("test size", True, "The same weights read up to six points apart at another resolution."),
    Aspect("test mode", True, "Sliding windows and whole images give different mIoU."),
    Aspect("metric", True, "AP50, 11-point AP and pycocotools' AP of the same boxes are three different numbers."),
)

ASPECTS: Final = {aspect.name: aspect for aspect in _ALL}
"""Every aspect by its name, in the order of a report."""
