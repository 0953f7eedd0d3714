"""Cityscapes-format semantic segmentation, FCN on three stages, all layers trained; mIoU of 19 classes.

Purpose: does the backbone distinguish the parts of a street scene, including thin ones?
Cost: about 40 s on one CPU core with ResNet-18 (bfloat16), 90 s with ResNet-50.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
A small version of the usual FCN transfer: plain 7x7 stem, batch normalization in training mode, weight decay on every
parameter (as mmseg does), poly schedule. One head reads the last three stages, joined at stride 8 as in FCN-8s (Long et
al., CVPR 2015), so that small inputs still have enough cells; dilation would cost more and show less.
Version 3: the backbone learns at a tenth of the head's rate, which falls to 0. In version 2 all had one rate; runs of
one checkpoint differed by more, and checkpoints by less (`docs/statistics.md` has the measurement). Version 2: pictures
are used as stored; version 1 turned those with an EXIF orientation, but not their annotations.
"""

from transfer_configs.parts import backbones, datasets, loading, schedules, segmenters

protocol = dict(
    id="mini_city_seg_fcn",
    version=3,
    title="Cityscapes semantic segmentation, FCN",
    short_title="Cityscapes seg FCN",
    track="mini",
    task="semantic segmentation",
    dataset="cityscapes",
    headline="mIoU",
    plan=dict(
        batch_size=4,
        iterations=240,
        learning_rate=0.005,
        head_learning_rate=0.05,
        final_learning_rate=0.0,
        norm_weight_decay=0.0005,
    ),
)
bf16_modules = ["backbone", "decode_head.convs"]
_plan = protocol["plan"]
_size, _crop = (224, 128), (96, 96)

default_scope = "mmseg"
model = dict(
    type="EncoderDecoder",
    data_preprocessor=segmenters.preprocessor(_crop),
    backbone=backbones.resnet((1, 2, 3)),
    decode_head=segmenters.fcn8_head(channels=128, classes=19),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

train_dataloader = loading.train_loader(
    datasets.cityscapes_segmentation(
        "train", loading.segmentation_training(size=_size, ratios=(0.75, 1.5), crop=_crop)
    ),
    _plan,
)
test_dataloader = loading.test_loader(
    datasets.cityscapes_segmentation("val", loading.segmentation_testing(loading.fit(_size))), batch_size=1
)
test_evaluator = dict(type="SegmentationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0005)
param_scheduler = schedules.poly(_plan)
