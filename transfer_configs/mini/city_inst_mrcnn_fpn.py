"""Cityscapes-format instance segmentation, Mask R-CNN with a feature pyramid, all layers trained; mask AP of 8 classes.

Purpose: does the backbone separate the cars and people of a street scene from each other, and outline them?
Cost: about that of `mini_coco_mrcnn_fpn`, two minutes on one CPU core with ResNet-18 (bfloat16).
Metric: AP (%) of masks as Cityscapes' own evaluation defines it, which is not COCO's: on the whole val set at the
images' own size, objects of under 100 pixels need not be found. Also its AP50, and pycocotools' AP and AP50 of boxes.
Everything but the number of classes, the size of the input and the data is as in `mini_coco_mrcnn_fpn`. Boxes and masks
are those of the visible pixels, from `*_gtFine_instanceIds.png`; images of train without an object are left out. Data
in Cityscapes' layout that have trainIds alone, such as CamVid, have no instance ids.
Version 2: AdamW instead of SGD, the backbone at a tenth of the rate of pyramid and heads, so that checkpoints differ by
more beside the noise of their runs (`docs/statistics.md`).
"""

from transfer_configs.parts import backbones, datasets, detectors, loading, schedules

protocol = dict(
    id="mini_city_inst_mrcnn_fpn",
    version=2,
    title="Cityscapes instance segmentation, Mask R-CNN with FPN",
    short_title="Cityscapes Mask R-CNN FPN",
    track="mini",
    task="instance segmentation",
    dataset="cityscapes_inst",
    headline="AP",
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
_channels, _classes = 64, 8
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

_resize = loading.fit((256, 144))
train_dataloader = loading.train_loader(
    datasets.cityscapes_instances("train", loading.detection_training(_resize, masks=True)),
    _plan,
    batch_sampler=loading.by_aspect_ratio(),
)
test_dataloader = loading.test_loader(
    datasets.cityscapes_instances("val", loading.instance_testing(_resize), test_mode=True), batch_size=8
)
test_evaluator = dict(type="CityscapesInstanceMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.adamw(_plan, weight_decay=0.05, max_norm=1.0)
param_scheduler = schedules.steps(_plan, warm_up=20, warm_up_from=0.01, milestones=[180, 220])
