"""VOC detection, Faster R-CNN with a feature pyramid on the frozen backbone; AP of 20 classes.

Purpose: does the unchanged backbone know where objects are, and how large they are?
Cost: about 45 s on one CPU core with ResNet-18 (bfloat16): no gradient passes through the backbone.
Metric: AP (%), VOC's 11-point average precision averaged over IoU .50:.05:.95 as detectron2 computes it; also AP50,
AP75 and pycocotools' AP.
The protocol `mini_voc_det_frcnn_fpn` with the backbone in evaluation mode, batch normalization included: only pyramid
and heads are trained. That no tensor of the backbone has changed is proven before and after training. Ericsson et al.
(CVPR 2021) freeze all stages of a full-size detector; values are not comparable with theirs.
Version 2: AdamW instead of SGD, as in version 3 of `mini_voc_det_frcnn_fpn`.
"""

from transfer_configs.parts import backbones, datasets, detectors, loading, schedules

protocol = dict(
    id="frozen_voc_det_frcnn_fpn",
    version=2,
    title="PASCAL VOC object detection, Faster R-CNN with FPN on the frozen backbone",
    short_title="VOC det Faster R-CNN FPN",
    track="frozen",
    task="detection",
    dataset="voc2012_det",
    headline="AP",
    plan=dict(
        batch_size=4,
        iterations=260,
        learning_rate=0.001,
        final_learning_rate=0.00001,
        norm_weight_decay=0.0,
        frozen=True,
    ),
)
bf16_modules = ["backbone", "neck", "rpn_head.rpn_conv", "roi_head.bbox_head.shared_fcs.*"]
_plan = protocol["plan"]
_channels = 64

default_scope = "mmdet"
model = dict(
    type="FasterRCNN",
    data_preprocessor=detectors.preprocessor(divisor=32),
    backbone=backbones.resnet((0, 1, 2, 3)),
    neck=detectors.fpn(channels=_channels, levels=3, start=1),
    rpn_head=detectors.rpn(channels=_channels, strides=[8, 16, 32], scales=[4]),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=detectors.roi_align(7, channels=_channels, strides=[8, 16], sampling=1, finest_scale=48),
        bbox_head=detectors.box_head(
            "Shared2FCBBoxHead", channels=_channels, fc_out_channels=256, size=7, classes=20, reg_class_agnostic=True
        ),
    ),
    train_cfg=detectors.two_stage_training(anchors=128, proposals=(300, 200), regions=32, positive=0.5),
    test_cfg=detectors.two_stage_testing(proposals=(300, 100), detections=100),
)

_resize = loading.fit((160, 160))
train_dataloader = loading.train_loader(
    datasets.voc_detection("train", loading.detection_training(_resize), filter_cfg=dict(filter_empty_gt=True)),
    _plan,
    batch_sampler=loading.by_aspect_ratio(),
)
test_dataloader = loading.test_loader(
    datasets.voc_detection("val", loading.detection_testing(_resize, boxes=True), test_mode=True), batch_size=8
)
test_evaluator = dict(type="VOCDetectionMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.adamw(_plan, weight_decay=0.05, max_norm=1.0)
param_scheduler = schedules.steps(_plan, warm_up=20, warm_up_from=0.01, milestones=[195, 240])
