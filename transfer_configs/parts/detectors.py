"""Faster and Mask R-CNN, in parts in which the protocols differ."""

from typing import Any

from transfer_configs.parts.backbones import batch_norm


def preprocessor(*, divisor: int, masks: bool = False) -> dict[str, Any]:
    """Normalization as the card says, then padding with the mean color.

    Args:
        divisor: sides are padded to a multiple of it.
        masks: pad the masks of the objects as well.
    """
    padding = dict(pad_mask=True) if masks else dict()
    return dict(
        type="DetDataPreprocessor",
        mean="card:mean",
        std="card:std",
        bgr_to_rgb="card:bgr_to_rgb",
        pad_size_divisor=divisor,
        pad_value=0,  # after normalization: the mean color
        **padding,
    )


def fpn(*, channels: int, levels: int, start: int = 0) -> dict[str, Any]:
    """Feature pyramid with batch normalization over the stages from `start` (0: C2, stride 4) on; for a ViT, the simple
    feature pyramid with the same levels.

    Args:
        channels: channels of every level.
        levels: number of levels; those beyond the backbone's stages are pooled from the coarsest.
        start: the first stage that is used.
    """
    return dict(
        type="FPN",
        in_channels="card:stage_channels",
        start_level=start,
        out_channels=channels,
        norm_cfg=batch_norm(),
        num_outs=levels,
    )


def rpn(*, channels: int | str, strides: list[int], scales: list[int], **more: Any) -> dict[str, Any]:
    """Region proposals: one convolution and three anchor ratios.

    Args:
        channels: channels of the input and of the convolution.
        strides: strides of the levels that are read.
        scales: side of the anchors in strides, the same list on every level.
        more: further arguments of `RPNHead`; they replace what is set here.
    """
    return (
        dict(
            type="RPNHead",
            in_channels=channels,
            feat_channels=channels,
            anchor_generator=dict(type="AnchorGenerator", scales=scales, ratios=[0.5, 1.0, 2.0], strides=strides),
            bbox_coder=box_coder([1.0, 1.0, 1.0, 1.0]),
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        )
        | more
    )


def roi_align(size: int, *, channels: int | str, strides: list[int], sampling: int, **more: Any) -> dict[str, Any]:
    """RoIAlign from one level per region.

    Args:
        size: cells per side of the result.
        channels: channels of the levels.
        strides: strides of the levels from which regions are read.
        sampling: samples per side of each cell; 0 takes as many as the region has pixels there.
        more: further arguments of `SingleRoIExtractor`, such as `finest_scale`.
    """
    return dict(
        type="SingleRoIExtractor",
        roi_layer=dict(type="RoIAlign", output_size=size, sampling_ratio=sampling),
        out_channels=channels,
        featmap_strides=strides,
        **more,
    )


def box_head(kind: str, *, channels: int | str, size: int, classes: int | str, **more: Any) -> dict[str, Any]:
    """Head for class and box of a region, with cross entropy and L1 loss.

    Args:
        kind: mmdet's class: `Shared2FCBBoxHead` (FPN, family A), `Shared4Conv1FCBBoxHead` (family B), `BBoxHead` (C4).
        channels: channels of the region's features.
        size: cells per side of a region.
        classes: number of classes without background, or `data:classes` for that of own data.
        more: further arguments of the class, such as `fc_out_channels`, `norm_cfg` or `reg_class_agnostic`.
    """
    return dict(
        type=kind,
        in_channels=channels,
        roi_feat_size=size,
        num_classes=classes,
        bbox_coder=box_coder([0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        **more,
    )


def mask_head(
    *, convolutions: int, channels: int, classes: int | str, in_channels: int | str | None = None, **more: Any
) -> dict[str, Any]:
    """Head for the mask of a region: 3x3 convolutions, then the resolution is doubled once.

    Args:
        convolutions: number of convolutions.
        channels: channels of each convolution and of the doubled map.
        classes: number of classes without background.
        in_channels: channels of the input; None: `channels`.
        more: further arguments of `FCNMaskHead`, such as `norm_cfg` or `class_agnostic`.
    """
    return dict(
        type="FCNMaskHead",
        num_convs=convolutions,
        in_channels=channels if in_channels is None else in_channels,
        conv_out_channels=channels,
        num_classes=classes,
        loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        **more,
    )


def box_coder(stds: list[float]) -> dict[str, Any]:
    """Boxes as differences from their anchor or region, divided by `stds` (x, y, log width, log height)."""
    return dict(type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=stds)


def two_stage_training(
    *,
    anchors: int,
    proposals: tuple[int, int],
    regions: int,
    positive: float,
    mask_size: int | None = None,
) -> dict[str, Any]:
    """Matching and sampling in training, as in detectron2.

    Args:
        anchors: anchors sampled per image, half of them positive where there are enough.
        proposals: proposals kept per image before (per level) and after non-maximum suppression.
        regions: regions sampled per image.
        positive: the largest share of positive ones among the regions.
        mask_size: cells per side of the target masks; None without masks.
    """
    masks = dict() if mask_size is None else dict(mask_size=mask_size)
    return dict(
        rpn=dict(
            assigner=dict(
                type="MaxIoUAssigner", pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True
            ),
            sampler=dict(type="RandomSampler", num=anchors, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=_proposals(*proposals),
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False
            ),
            sampler=dict(
                type="RandomSampler", num=regions, pos_fraction=positive, neg_pos_ub=-1, add_gt_as_proposals=True
            ),
            pos_weight=-1,
            debug=False,
            **masks,
        ),
    )


def two_stage_testing(*, proposals: tuple[int, int], detections: int, masks: bool = False) -> dict[str, Any]:
    """Detections kept in evaluation: scores above .05, overlaps of at most .5.

    Args:
        proposals: proposals kept per image before (per level) and after non-maximum suppression.
        detections: detections kept per image.
        masks: whether there are masks, which are thresholded at .5.
    """
    cut = dict(mask_thr_binary=0.5) if masks else dict()
    return dict(
        rpn=_proposals(*proposals),
        rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=detections, **cut),
    )


def _proposals(before: int, after: int) -> dict[str, Any]:
    return dict(nms_pre=before, max_per_img=after, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)
