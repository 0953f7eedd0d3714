"""VOC detection, Faster R-CNN with a feature pyramid, all layers trained; AP of 20 classes.

Purpose: does the backbone localize and name objects of several sizes?
Cost: about 65 s on one CPU core with ResNet-18 (bfloat16), 140 s with ResNet-50.
Metric: AP (%), VOC's 11-point average precision averaged over IoU .50:.05:.95 as detectron2 computes it; also AP50,
AP75 and pycocotools' AP.
A small version of the FPN family A of the self-supervised literature (two fully connected layers, no norm in the box
head): batch normalization in training mode, no weight decay on norm parameters (as detectron2 does), step schedule,
objects marked difficult are trained on. Smaller than the usual: three levels from stride 8, 64 channels, 32 regions per
image, box regression shared by the classes, four images per iteration (more updates help more than larger batches).
Version 3: AdamW instead of SGD, the backbone at a tenth of the rate of pyramid and heads, so that checkpoints differ by
more beside the noise of their runs (`docs/statistics.md`). Version 2: pictures are used as stored; version 1 turned
those with an EXIF orientation, but not their annotations.
"""

from transfer_configs.parts import backbones, datasets, detectors, loading, schedules

protocol = dict(
    id="mini_voc_det_frcnn_fpn",
    version=3,
    title="PASCAL VOC object detection, Faster R-CNN with FPN",
    short_title="VOC det Faster R-CNN FPN",
    track="mini",
    task="detection",
    dataset="voc2012_det",
    headline="AP",
    plan=dict(
        batch_size=4,
        iterations=260,
        learning_rate=0.0001,
        head_learning_rate=0.001,
        final_learning_rate=0.000001,
        norm_weight_decay=0.0,
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
