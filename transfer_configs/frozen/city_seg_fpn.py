"""Cityscapes semantic segmentation, feature pyramid with a light head on the frozen backbone; mIoU of 19 classes.

Purpose: What do the frozen maps of several strides give together, where `frozen_city_seg_head` reads the last two?
Cost: about half a minute on one CPU core with ResNet-18 (bfloat16).
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
Data, inputs, batch size and number of iterations of `mini_city_seg_fcn`. The learning rate falls from .05 to .0005, as
in version 2 of that protocol; in its version 3 it falls to 0. The backbone is in evaluation mode, batch normalization
included. A feature pyramid of 64 channels with batch normalization (for a ViT, ViTDet's simple one) from stride 8 on,
and the semantic branch of Panoptic FPN (Kirillov et al., CVPR 2019). Images are augmented, so that nothing is kept for
reuse. That no tensor of the backbone has changed is proven before and after training.
"""

from transfer_configs.parts import backbones, datasets, detectors, loading, schedules, segmenters

protocol = dict(
    id="frozen_city_seg_fpn",
    version=1,
    title="Cityscapes semantic segmentation, feature pyramid on the frozen backbone",
    short_title="Cityscapes seg FPN",
    track="frozen",
    task="semantic segmentation",
    dataset="cityscapes",
    headline="mIoU",
    plan=dict(
        batch_size=4,
        iterations=240,
        learning_rate=0.05,
        final_learning_rate=0.0005,
        norm_weight_decay=0.0005,
        frozen=True,
    ),
)
bf16_modules = ["backbone", "neck", "decode_head.scale_heads.*"]
_plan = protocol["plan"]
_channels = 64
_size, _crop = (224, 128), (96, 96)

default_scope = "mmseg"
model = dict(
    type="EncoderDecoder",
    data_preprocessor=segmenters.preprocessor(_crop),
    backbone=backbones.resnet((0, 1, 2, 3)),
    neck=detectors.fpn(channels=_channels, levels=3, start=1),
    decode_head=segmenters.fpn_head(channels=_channels, classes=19),
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
