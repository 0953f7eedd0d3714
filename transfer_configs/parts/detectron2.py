"""Detectors as detectron2, from which the published values come, trains and evaluates them.

The parts that mmdet lacks are `bench.openmmlab.matching`, `res5`, `retina` and `fcos`. What stays different, in all
protocols: images are scaled by OpenCV (detectron2: PIL); anchors in the padding are left out (detectron2: negative);
images are grouped by aspect ratio over the whole batch (detectron2: over the two of a GPU); target masks are cut from
bitmaps (detectron2: from polygons); convolutions of feature pyramids start from Xavier's distribution (detectron2:
Kaiming's), and so does the first fully connected layer of a box head, with a standard deviation of .0121 (detectron2:
.0089); the last layer of a mask head starts with one of (2 / classes) ** .5, .16 for COCO (detectron2: .001).
"""

from collections.abc import Mapping
from typing import Any

from transfer_configs.parts import backbones, datasets, detectors, loading, schedules

Proposals = tuple[int, int]

WEIGHT_DECAY = 0.0001
"""Weight decay of all parameters except those of normalization, which have none."""
WORKERS = "run:workers"
_CHANNELS = 256


def multi_scale(shortest: int, longest: int, *, limit: int) -> dict[str, Any]:
    """Resize the short side to `shortest`, `shortest` + 32, ... or `longest`, drawn uniformly; the long side to at most
    `limit`.
    """
    sizes = range(shortest, longest + 1, 32)
    return dict(type="RandomChoiceResize", scales=[(limit, size) for size in sizes], keep_ratio=True)


def training(*, proposals: Proposals, mask_size: int | None = None) -> dict[str, Any]:
    """256 anchors and 512 regions per image, matched as in detectron2.

    Args:
        proposals: proposals kept per image before (per level) and after non-maximum suppression.
        mask_size: cells per side of the target masks; None without masks.
    """
    config = detectors.two_stage_training(
        anchors=256, proposals=proposals, regions=512, positive=0.25, mask_size=mask_size
    )
    config["rpn"]["assigner"] = dict(type="Detectron2Assigner", background=0.3, foreground=0.7, best_anchors=True)
    config["rcnn"]["assigner"] = dict(type="Detectron2Assigner", background=0.5, foreground=0.5, best_anchors=False)
    return config


def testing(*, proposals: Proposals, masks: bool = False) -> dict[str, Any]:
    """100 detections per image with scores above .05. For the arguments see :func:`training`."""
    return detectors.two_stage_testing(proposals=proposals, detections=100, masks=masks)


def rcnn_c4(*, classes: int, masks: bool = False) -> dict[str, Any]:
    """Faster R-CNN, or Mask R-CNN with `masks`, on res4; the head is the checkpoint's res5 and one more normalization.

    The mask head reads what the box head reads before its mean: 7 x 7 cells, which one transposed convolution doubles.
    """
    res4, res5 = "card:c4_channels", "card:c5_channels"
    region: dict[str, Any] = dict(
        type="StandardRoIHead",
        shared_head=dict(type="Res5ExtraNorm", depth="card:depth", norm_cfg=backbones.batch_norm()),
        bbox_roi_extractor=detectors.roi_align(14, channels=res4, strides=[16], sampling=0),
        bbox_head=detectors.box_head("BBoxHead", channels=res5, size=7, classes=classes, with_avg_pool=True),
    )
    if masks:
        region["mask_roi_extractor"] = None  # that of the boxes
        region["mask_head"] = detectors.mask_head(convolutions=0, in_channels=res5, channels=_CHANNELS, classes=classes)
    return dict(
        type="MaskRCNN" if masks else "FasterRCNN",
        data_preprocessor=detectors.preprocessor(divisor=1, masks=masks),
        backbone=backbones.resnet((2,), num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1)),
        rpn_head=detectors.rpn(channels=res4, strides=[16], scales=[2, 4, 8, 16, 32]),
        roi_head=region,
        train_cfg=training(proposals=(12_000, 2_000), mask_size=14 if masks else None),
        test_cfg=testing(proposals=(6_000, 1_000), masks=masks),
    )


def faster_rcnn_fpn(*, classes: int) -> dict[str, Any]:
    """Faster R-CNN of family A: :func:`mask_rcnn_fpn` without masks."""
    model = mask_rcnn_fpn(classes=classes, norm_in_heads=False)
    for name in ("mask_roi_extractor", "mask_head"):
        del model["roi_head"][name]
    return model | dict(
        type="FasterRCNN",
        data_preprocessor=detectors.preprocessor(divisor=32),
        train_cfg=training(proposals=(2_000, 1_000)),
        test_cfg=testing(proposals=(1_000, 1_000)),
    )


def mask_rcnn_fpn(
    *, classes: int, norm_in_heads: bool, least_score: float = 0.05, detections: int = 100
) -> dict[str, Any]:
    """Mask R-CNN on P2 to P6 of 256 channels, normalized in the pyramid, of one of two families.

    Args:
        classes: number of classes without background.
        least_score: detections have scores above it.
        detections: detections kept per image.
        norm_in_heads: family B of the literature: four convolutions and one fully connected layer in the box head,
            normalized in the heads. Family A: two fully connected layers, no norm in the heads.
    """
    strides = [4, 8, 16, 32]
    test_cfg = testing(proposals=(1_000, 1_000), masks=True)
    test_cfg["rcnn"] |= dict(score_thr=least_score, max_per_img=detections)

    def norm() -> dict[str, Any]:
        return dict(norm_cfg=backbones.batch_norm()) if norm_in_heads else dict()

    return dict(
        type="MaskRCNN",
        data_preprocessor=detectors.preprocessor(divisor=32, masks=True),
        backbone=backbones.resnet((0, 1, 2, 3)),
        neck=detectors.fpn(channels=_CHANNELS, levels=5),
        rpn_head=detectors.rpn(channels=_CHANNELS, strides=[*strides, 64], scales=[8]),
        roi_head=dict(
            type="StandardRoIHead",
            bbox_roi_extractor=detectors.roi_align(7, channels=_CHANNELS, strides=[*strides], sampling=0),
            bbox_head=detectors.box_head(
                "Shared4Conv1FCBBoxHead" if norm_in_heads else "Shared2FCBBoxHead",
                channels=_CHANNELS,
                fc_out_channels=1024,
                size=7,
                classes=classes,
                **norm(),
            ),
            mask_roi_extractor=detectors.roi_align(14, channels=_CHANNELS, strides=[*strides], sampling=0),
            mask_head=detectors.mask_head(convolutions=4, channels=_CHANNELS, classes=classes, **norm()),
        ),
        train_cfg=training(proposals=(2_000, 1_000), mask_size=28),
        test_cfg=test_cfg,
    )


def retinanet(*, classes: int) -> dict[str, Any]:
    """RetinaNet on P3 to P7 of 256 channels; P3 to P5 are normalized, the head is not.

    Four convolutions each for classes and boxes, nine anchors per cell; the focal loss has gamma 2 and alpha .25.
    """
    return dict(
        type="RetinaNet",
        data_preprocessor=detectors.preprocessor(divisor=32),
        backbone=backbones.resnet((0, 1, 2, 3)),
        neck=detectors.fpn(channels=_CHANNELS, levels=5, start=1) | dict(type="RetinaPyramid"),
        bbox_head=dict(
            type="Detectron2RetinaHead",
            num_classes=classes,
            in_channels=_CHANNELS,
            feat_channels=_CHANNELS,
            stacked_convs=4,
            anchor_generator=dict(
                type="AnchorGenerator",
                octave_base_scale=4,
                scales_per_octave=3,
                ratios=[0.5, 1.0, 2.0],
                strides=[8, 16, 32, 64, 128],
            ),
            bbox_coder=detectors.box_coder([1.0, 1.0, 1.0, 1.0]) | dict(clip_border=False),  # the head does, later
            loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
        train_cfg=dict(
            assigner=dict(type="Detectron2Assigner", background=0.4, foreground=0.5, best_anchors=True),
            sampler=dict(type="PseudoSampler"),  # every anchor that is positive or negative
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=dict(
            nms_pre=1_000,
            min_bbox_size=0,
            score_thr=0.05,
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=100,
        ),
    )


def fcos(*, classes: int) -> dict[str, Any]:
    """FCOS as AdelaiDet has it, on P3 to P7 of 256 channels; P3 to P5 are normalized, P6 and P7 are made of P5.

    Four convolutions with group normalization each for classes and boxes. Centers of objects are sampled, within 1.5
    strides; the centerness is read from the boxes' features. See `bench.openmmlab.fcos`.
    """
    return dict(
        type="FCOS",
        data_preprocessor=detectors.preprocessor(divisor=32),
        backbone=backbones.resnet((0, 1, 2, 3)),
        neck=detectors.fpn(channels=_CHANNELS, levels=5, start=1)
        | dict(type="RetinaPyramid", add_extra_convs="on_output"),
        bbox_head=dict(
            type="AdelaiFCOSHead",
            num_classes=classes,
            in_channels=_CHANNELS,
            feat_channels=_CHANNELS,
            stacked_convs=4,
            strides=[8, 16, 32, 64, 128],
            center_sampling=True,
            center_sample_radius=1.5,
            norm_on_bbox=True,
            centerness_on_reg=True,
            conv_bias=True,
            norm_cfg=dict(type="GN", num_groups=32, requires_grad=True),
            bbox_coder=dict(type="DistancePointBBoxCoder", clip_border=False),  # the head does, later
            loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
            loss_bbox=dict(type="SmoothedGIoULoss"),
            loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
            least_score=0.05,
        ),
        train_cfg=dict(),
        test_cfg=dict(
            nms_pre=1_000,
            min_bbox_size=0,
            score_thr=0.0,  # the head has one, of the class alone
            nms=dict(type="nms", iou_threshold=0.6),
            max_per_img=100,
        ),
    )


def coco_training(plan: Mapping[str, Any], *, masks: bool = True) -> dict[str, Any]:
    """COCO train2017, or the plan's share of it, without the images that have no object, short side 640 to 800."""
    pipeline = loading.detection_training(multi_scale(640, 800, limit=1333), masks=masks)
    share = datasets.share(plan["labels"]) if "labels" in plan else dict()
    return train_loader(datasets.coco("train2017", pipeline, filter_cfg=dict(filter_empty_gt=True), **share), plan)


def coco_testing() -> dict[str, Any]:
    """COCO val2017, short side 800."""
    pipeline = loading.detection_testing(loading.fit((1333, 800)), boxes=False)
    return test_loader(datasets.coco("val2017", pipeline, test_mode=True))


def lvis_training(plan: Mapping[str, Any], *, threshold: float) -> dict[str, Any]:
    """LVIS v1 train without the images that have no object, short side 640 to 800.

    Images of classes on less than a share `threshold` of the images are drawn more often (`bench.openmmlab.repeats`).
    """
    pipeline = loading.detection_training(multi_scale(640, 800, limit=1333), masks=True)
    loader = train_loader(datasets.lvis("train", pipeline, filter_cfg=dict(filter_empty_gt=True)), plan)
    return loader | dict(sampler=dict(type="RepeatFactorSampler", threshold=threshold))


def lvis_testing() -> dict[str, Any]:
    """LVIS v1 val, short side 800."""
    pipeline = loading.detection_testing(loading.fit((1333, 800)), boxes=False)
    return test_loader(datasets.lvis("val", pipeline, test_mode=True))


def voc0712_training(plan: Mapping[str, Any]) -> dict[str, Any]:
    """VOC 2007 trainval and 2012 trainval, short side 480 to 800."""
    pipeline = loading.detection_training(multi_scale(480, 800, limit=1333))
    return train_loader(datasets.voc0712_detection_training(pipeline), plan)


def voc07_testing() -> dict[str, Any]:
    """VOC 2007 test, short side 800."""
    pipeline = loading.detection_testing(loading.fit((1333, 800)), boxes=True)
    return test_loader(datasets.voc07_detection_testing(pipeline))


def cityscapes_training(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Cityscapes train without the images that have no object, short side 800 to 1024."""
    pipeline = loading.detection_training(multi_scale(800, 1024, limit=2048), masks=True)
    return train_loader(datasets.cityscapes_instances("train", pipeline), plan)


def cityscapes_testing() -> dict[str, Any]:
    """Cityscapes val, short side 1024, with the paths that its metric needs."""
    pipeline = loading.instance_testing(loading.fit((2048, 1024)))
    return test_loader(datasets.cityscapes_instances("val", pipeline, test_mode=True))


def train_loader(dataset: dict[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Endless shuffled batches of images that are all wide or all tall."""
    return loading.train_loader(dataset, plan, workers=WORKERS, batch_sampler=loading.by_aspect_ratio())


def test_loader(dataset: dict[str, Any]) -> dict[str, Any]:
    """Every image once, one at a time."""
    return loading.test_loader(dataset, batch_size=1, workers=WORKERS)


def sgd(plan: Mapping[str, Any]) -> dict[str, Any]:
    """SGD with momentum .9, without clipping."""
    return schedules.sgd(plan, weight_decay=WEIGHT_DECAY)


def steps(plan: Mapping[str, Any], *, warm_up: int, milestones: list[int]) -> list[dict[str, Any]]:
    """Linear warm-up from a thousandth, complete at iteration `warm_up`; from each milestone on a tenth of the rate.

    mmengine's warm-up is complete one iteration before its end, so 1 is added.
    """
    return schedules.steps(plan, warm_up=warm_up + 1, warm_up_from=0.001, milestones=milestones)
