"""COCO detection and instance segmentation, Mask R-CNN with a feature pyramid, all layers trained; box and mask AP.

Purpose: does the backbone localize, name and outline objects of several sizes?
Cost: about 90 s on one CPU core with ResNet-18 (bfloat16), 170 s with ResNet-50.
Metric: box AP (%) of pycocotools; also mask AP and both at IoU .50 and .75 and by object size.
A small version of the FPN family A of the self-supervised literature (two fully connected layers, no norm in heads):
batch normalization in training mode, no weight decay on norm parameters (as detectron2 does), step schedule. Smaller
than the usual: three levels from stride 8, 64 channels, 32 regions per image, box regression and masks shared by the
classes, four images per iteration, 30 detections per image.
Version 3: AdamW instead of SGD, the backbone at a tenth of the rate of pyramid and heads, so that checkpoints differ by
more beside the noise of their runs (`docs/statistics.md`). Version 2: pictures are used as stored; version 1 turned
those with an EXIF orientation, but not their annotations.
"""

from transfer_configs.parts import backbones, datasets, detectors, loading, schedules

protocol = dict(
    id="mini_coco_mrcnn_fpn",
    version=3,
    title="COCO detection and instance segmentation, Mask R-CNN with FPN",
    short_title="COCO Mask R-CNN FPN",
    track="mini",
    task="instance segmentation",
    dataset="coco2017",
    headline="bbox_AP",
    plan=dict(
        batch_size=4,
        iterations=240,
        learning_rate=0.0001,
        head_learning_rate=0.001,
        final_learning_rate=0.000001,
        norm_weight_decay=0.0,
    ),
)
bf16_modules = [
    "backbone",
    "neck",
    "rpn_head.rpn_conv",
    "roi_head.bbox_head.shared_fcs.*",
    "roi_head.mask_head.convs.*",
]
_plan = protocol["plan"]
_channels, _classes = 64, 80
_levels = dict(channels=_channels, strides=[8, 16], sampling=1, finest_scale=48)

default_scope = "mmdet"
model = dict(
    type="MaskRCNN",
    data_preprocessor=detectors.preprocessor(divisor=32, masks=True),
    backbone=backbones.resnet((0, 1, 2, 3)),
    neck=detectors.fpn(channels=_channels, levels=3, start=1),
    rpn_head=detectors.rpn(channels=_channels, strides=[8, 16, 32], scales=[4]),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=detectors.roi_align(7, **_levels),
        bbox_head=detectors.box_head(
            "Shared2FCBBoxHead",
            channels=_channels,
            fc_out_channels=256,
            size=7,
            classes=_classes,
            reg_class_agnostic=True,
        ),
        mask_roi_extractor=detectors.roi_align(14, **_levels),
        mask_head=detectors.mask_head(convolutions=2, channels=_channels, classes=_classes, class_agnostic=True),
    ),
    train_cfg=detectors.two_stage_training(anchors=128, proposals=(300, 200), regions=32, positive=0.5, mask_size=28),
    test_cfg=detectors.two_stage_testing(proposals=(300, 100), detections=30, masks=True),
)

_resize = loading.fit((160, 160))
train_dataloader = loading.train_loader(
    datasets.coco("train2017", loading.detection_training(_resize, masks=True), filter_cfg=dict(filter_empty_gt=True)),
    _plan,
    batch_sampler=loading.by_aspect_ratio(),
)
test_dataloader = loading.test_loader(
    datasets.coco("val2017", loading.detection_testing(_resize, boxes=False), test_mode=True), batch_size=8
)
test_evaluator = datasets.coco_metric("val2017", ("bbox", "segm"))

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.adamw(_plan, weight_decay=0.05, max_norm=1.0)
param_scheduler = schedules.steps(_plan, warm_up=20, warm_up_from=0.01, milestones=[180, 220])
