"""VOC labels painted by a small Mask R-CNN that learned from MaskDistill's objects and clusters; Hungarian mIoU.

Purpose: does a detector that learned from discovered objects give better labels than they are themselves?
Cost: about 100 s on one CPU core with ResNet-18 (bfloat16).
Metric: mIoU (%) of the whole val set at the images' own size, 255 ignored, if each of the 21 labels is the class that
makes it the highest. Labels are painted from predictions with a score of at least .9, or the surest one of an image.
Steps 3 and 4 of MaskDistill (arXiv 2206.06363). The run's folder then holds `labels.npy`, the labels of the training
images as a table: in the place of `maskdistill/voc2012.npy` of a data root, `mini_voc_maskdistill` learns from it.
Masks are painted over each other as the published code does it, by mistake (`bench.openmmlab.painting`). The Mask R-CNN
is that of `mini_coco_mrcnn_fpn` with a class for each cluster, trained by SGD with one rate for all layers; the
settings of the paper's are not published.
"""

from transfer_configs.parts import backbones, detectors, discovered, loading, schedules

protocol = dict(
    id="mini_voc_maskdistill_mrcnn",
    version=1,
    title="PASCAL VOC labels painted by a Mask R-CNN that learned from discovered objects",
    short_title="VOC MaskDistill Mask R-CNN",
    track="mini",
    task="semantic segmentation",
    dataset="voc2012_maskdistill",
    headline="mIoU",
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
_channels, _classes = 64, 20
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
    discovered.voc_objects(loading.detection_training(_resize, masks=True)),
    _plan,
    batch_sampler=loading.by_aspect_ratio(),
)
test_dataloader = loading.test_loader(discovered.voc_without_objects("val", _resize), batch_size=8)
test_evaluator = dict(type="PaintedSegmentationMetric", published=True)
relabel = dict(
    dataloader=loading.test_loader(discovered.voc_without_objects("train", dict(_resize)), batch_size=8),
    published=True,
)

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0001, max_norm=10.0)
param_scheduler = schedules.steps(_plan, warm_up=20, warm_up_from=0.01, milestones=[180, 220])
