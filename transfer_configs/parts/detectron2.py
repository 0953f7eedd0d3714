"""Two-stage detectors as detectron2 trains and evaluates them, which the published values come from.

What no setting of mmdet gives is `bench.openmmlab.matching` and `bench.openmmlab.res5`. What stays different, in all
protocols: images are scaled by OpenCV (detectron2: PIL); anchors in the padding are left out (detectron2: negative);
images are grouped by aspect ratio over the whole batch (detectron2: over two of a GPU); target masks are cut from
bitmaps (detectron2: from polygons); convolutions of feature pyramids start from Xavier's distribution (detectron2:
Kaiming's).
"""

from collections.abc import Mapping
from typing import Any

from transfer_configs.parts import detectors, loading, schedules

Proposals = tuple[int, int]

WEIGHT_DECAY = 0.0001
"""Of all parameters but those of normalization, which have none."""


def multi_scale(shortest: int, longest: int, *, limit: int) -> dict[str, Any]:
    """Resize the short side to `shortest`, `shortest` + 32, ... or `longest`, drawn evenly; the long side to at most
    `limit`.
    """
    sizes = range(shortest, longest + 1, 32)
    return dict(type="RandomChoiceResize", scales=[(limit, size) for size in sizes], keep_ratio=True)


def training(*, proposals: Proposals, mask_size: int | None = None) -> dict[str, Any]:
    """256 anchors and 512 regions an image, matched as detectron2 matches them.

    Args:
        proposals: kept an image before (a level) and after non-maximum suppression.
        mask_size: cells a side of the target masks; None without masks.
    """
    config = detectors.two_stage_training(
        anchors=256, proposals=proposals, regions=512, positive=0.25, mask_size=mask_size
    )
    config["rpn"]["assigner"] = dict(type="Detectron2Assigner", background=0.3, foreground=0.7, best_anchors=True)
    config["rcnn"]["assigner"] = dict(type="Detectron2Assigner", background=0.5, foreground=0.5, best_anchors=False)
    return config


def testing(*, proposals: Proposals, masks: bool = False) -> dict[str, Any]:
    """100 detections an image, of scores above .05. Arguments as in :func:`training`."""
    return detectors.two_stage_testing(proposals=proposals, detections=100, masks=masks)


def train_loader(dataset: dict[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Endless shuffled batches of images that are all wide or all tall."""
    return loading.train_loader(dataset, plan, batch_sampler=loading.by_aspect_ratio())


def sgd(plan: Mapping[str, Any]) -> dict[str, Any]:
    """SGD with momentum .9, without clipping."""
    return schedules.sgd(plan, weight_decay=WEIGHT_DECAY)


def steps(plan: Mapping[str, Any], *, warm_up: int, milestones: list[int]) -> list[dict[str, Any]]:
    """Linear warm-up from a thousandth, complete at iteration `warm_up`; a tenth from each milestone on.

    mmengine's warm-up is complete one iteration before its end, hence the one more.
    """
    return schedules.steps(plan, warm_up=warm_up + 1, warm_up_from=0.001, milestones=milestones)
