"""Semantic segmentation of own data, FCN on three stages, all layers trained; mIoU.

Purpose: does the backbone separate the classes from each other once it is trained on these images?
Cost: about 70 s on one CPU core with ResNet-18 (bfloat16), 3 minutes with ResNet-50, and .1 s per validation image.
Metric: mIoU (%) from the confusion matrix of all validation images at the images' own size. Pixels of values that the
description ignores do not count. With masks of objects, everything outside them is one more class, background.
Model, input size and schedule are those of mini_voc_seg_fcn; its 480 iterations of 4 images were fixed for 420 images
and are never chosen on the user's.
Version 2: the backbone learns at a tenth of the head's rate, as in version 3 of mini_voc_seg_fcn.
"""

from transfer_configs.parts import backbones, datasets, loading, schedules, segmenters

protocol = dict(
    id="custom_seg_fcn",
    version=2,
    title="Semantic segmentation of own data, FCN",
    short_title="seg FCN",
    track="custom",
    task="semantic segmentation",
    dataset="custom_seg",
    headline="mIoU",
    plan=dict(
        batch_size=4,
        iterations=480,
        learning_rate=0.002,
        head_learning_rate=0.02,
        final_learning_rate=0.0,
        norm_weight_decay=0.0005,
    ),
)
bf16_modules = ["backbone", "decode_head.convs"]
_plan = protocol["plan"]
_size, _crop = (160, 160), (96, 96)

default_scope = "mmseg"
model = dict(
    type="EncoderDecoder",
    data_preprocessor=segmenters.preprocessor(_crop),
    backbone=backbones.resnet((1, 2, 3)),
    decode_head=segmenters.fcn8_head(channels=128, classes="data:labels"),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

train_dataloader = loading.train_loader(
    datasets.own_segmentation("train", loading.segmentation_training(size=_size, ratios=(0.75, 1.5), crop=_crop)), _plan
)
test_dataloader = loading.test_loader(
    datasets.own_segmentation("val", loading.segmentation_testing(loading.fit(_size))), batch_size=1
)
test_evaluator = dict(type="SegmentationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0005)
param_scheduler = schedules.poly(_plan)
