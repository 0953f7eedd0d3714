"""COCO objects without labels, a small class-agnostic Mask R-CNN trained on MaskDistill's masks; mask AP50.

Purpose: how good are discovered objects as masks to learn from? Rows share the table of masks in the data root.
Cost: about 90 s on one CPU core with ResNet-18 (bfloat16).
Metric: AP50 (%) of masks without classes on COCO's val2017. `multi_AP50`: of all predictions, as COCO computes it.
`single_AP50`: of the surest prediction of each image, compared with the object whose box overlaps most with its own.
After MaskDistill (arXiv 2206.06363), whose published values are of COCO20k, with another Mask R-CNN whose settings are
not published. Everything but the one class, and SGD with one rate for all layers, is as in `mini_coco_mrcnn_fpn`.
Version 2: the objects are trained on; version 1 gave mmdet masks in a form for which it ignores an object.
"""

from transfer_configs.parts import backbones, datasets, detectors, discovered, loading, schedules

protocol = dict(
    id="mini_coco_maskdistill",
    version=2,
    title="COCO unsupervised instance segmentation, distilled from discovered objects",
    short_title="COCO MaskDistill",
    track="mini",
    task="instance segmentation",
    dataset="coco2017_maskdistill",
    headline="multi_AP50",
    plan=dict(
        batch_size=4,
        iterations=240,
        learning_rate=0.02,
        final_learning_rate=0.0002,
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
_channels, _classes = 64, 1
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
    discovered.coco_objects(loading.detection_training(_resize, masks=True)),
    _plan,
    batch_sampler=loading.by_aspect_ratio(),
)
test_dataloader = loading.test_loader(
    datasets.coco("val2017", loading.detection_testing(_resize, boxes=False), test_mode=True), batch_size=8
)
test_evaluator = discovered.class_agnostic_metric("val2017")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0001, max_norm=10.0)
param_scheduler = schedules.steps(_plan, warm_up=20, warm_up_from=0.01, milestones=[180, 220])
