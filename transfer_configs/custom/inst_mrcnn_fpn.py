"""Object detection and instance segmentation on own data, Mask R-CNN with a feature pyramid; box and mask AP.

Purpose: does the backbone localize, name and outline the objects of these images? All layers are trained.
Cost: about 90 s on one CPU core with ResNet-18 (bfloat16), 170 s with ResNet-50, and .15 s per validation image.
Metric: box AP (%) of pycocotools; also mask AP and both at IoU .50 and .75 and by object size.
Model, input size and schedule are those of mini_coco_mrcnn_fpn; its 240 iterations of 4 images were fixed for 294
images and are never chosen on the user's.
Version 2: AdamW instead of SGD, the backbone at a tenth of the rate of pyramid and heads.
"""

from transfer_configs.parts import backbones, datasets, detectors, loading, schedules

protocol = dict(
    id="custom_inst_mrcnn_fpn",
    version=2,
    title="Detection and instance segmentation on own data, Mask R-CNN with FPN",
    short_title="inst Mask R-CNN FPN",
    track="custom",
    task="instance segmentation",
    dataset="custom_inst",
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
_channels, _classes = 64, "data:classes"
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
    datasets.own_objects(
        "train", loading.detection_training(_resize, masks=True), filter_cfg=dict(filter_empty_gt=True)
    ),
    _plan,
    batch_sampler=loading.by_aspect_ratio(),
)
test_dataloader = loading.test_loader(
    datasets.own_objects("val", loading.detection_testing(_resize, boxes=False), test_mode=True), batch_size=8
)
test_evaluator = datasets.own_metric("val", ("bbox", "segm"))

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.adamw(_plan, weight_decay=0.05, max_norm=1.0)
param_scheduler = schedules.steps(_plan, warm_up=20, warm_up_from=0.01, milestones=[180, 220])
