"""VOC semantic segmentation without labels, a small DeepLab-v3 trained on MaskDistill's labels; Hungarian mIoU.

Purpose: how good are discovered objects and their clusters as labels? Rows share the table of labels in the data root.
Cost: about three minutes on one CPU core with ResNet-18 (bfloat16), with the linear value.
Metric: mIoU (%) of the whole val set at the images' own size, 255 ignored, if each of the 21 predicted labels is the
class that makes it the highest. So labels name clusters, and nothing else. `linear_mIoU`: the last layer is then
learned anew with VOC's labels, everything else frozen.
After MaskDistill (arXiv 2206.06363). Smaller: the map of stride 8 joins three stages instead of dilating two, all
layers are trained, 96 pixels, poly schedule. The mean loss is over the fifth of the pixels where it is the highest, as
published. Published values name clusters by the boxes of training images, and choose the best epoch on val.
"""

from transfer_configs.parts import backbones, datasets, discovered, loading, schedules, segmenters

protocol = dict(
    id="mini_voc_maskdistill",
    version=1,
    title="PASCAL VOC unsupervised semantic segmentation, distilled from discovered objects",
    short_title="VOC MaskDistill",
    track="mini",
    task="semantic segmentation",
    dataset="voc2012_maskdistill",
    headline="mIoU",
    plan=dict(
        batch_size=4,
        iterations=240,
        learning_rate=0.02,
        final_learning_rate=0.0005,
        norm_weight_decay=0.0005,
    ),
)
bf16_modules = ["backbone", "decode_head.aspp_modules.*", "decode_head.bottleneck"]
_plan = protocol["plan"]
_size, _crop = (160, 160), (96, 96)

default_scope = "mmseg"
model = dict(
    type="EncoderDecoder",
    data_preprocessor=segmenters.preprocessor(_crop),
    backbone=backbones.resnet((1, 2, 3)),
    decode_head=discovered.deeplab_head(channels=64, dilations=(1, 2, 4), classes=21, kept=1843, crop=9216),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

train_dataloader = loading.train_loader(
    discovered.voc_labels(loading.segmentation_training(size=_size, ratios=(0.75, 1.25), crop=_crop)), _plan
)
test_dataloader = loading.test_loader(
    datasets.voc_segmentation("val", loading.segmentation_testing(loading.fit(_size))), batch_size=1
)
test_evaluator = dict(type="HungarianSegmentationMetric")
linear = discovered.linear(
    _plan,
    loading.segmentation_training(size=_size, ratios=(0.75, 1.25), crop=_crop),
    iterations=240,
    learning_rate=0.1,
    weight_decay=0.0001,
    milestones=(100,),
)

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0005)
param_scheduler = schedules.poly(_plan)
