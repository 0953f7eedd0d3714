"""Cityscapes segmentation, FCN of MoCo's paper, all layers trained, 90,000 iterations of 16 crops of 769; mIoU.

Purpose: Cityscapes segmentation as MoCo and SlotCon report it. Not comparable with `city_seg_fcn_d8_40k.py`. Train:
2,975 images. Test: val (500).
Metric: mIoU (%) of 19 classes from one confusion matrix of the whole val set at the images' own size, 255 ignored; a
class that is in no label and no prediction is left out. Nothing is rounded (mmseg: to two decimals).
Architecture: the checkpoint's ResNet with its 7x7 stem; layer4 is dilated by 2 (its first block by 1) and has no
stride. Head on it: two 3x3 convolutions of 256 channels, each dilated by 6, and a classifier; no dropout, no auxiliary
head. Scores are resized with aligned corners. Batch normalization in training mode everywhere.
Schedule: 16 crops of 769 per iteration; SGD at .01, momentum .9, weight decay .0001 of every parameter; no warm-up; a
tenth from 63,000 and from 81,000 on. Images are resized to .5 to 2 times their own size, cropped and flipped. Tested
whole, at their own size.
Published: MoCo's paper (mIoU, means of five runs): MoCo v1 75.3, supervised 74.6. Others who rebuilt the protocol
report about 67, so no tolerance is given.
Differs from the papers: MoCo's code was never published; this is its paper's description. The batch, aligned corners,
the dilation of layer4's first block, and a loss that is the mean over all pixels are those of SlotCon's reconstruction,
which tests in windows at 2049 x 1025 and divides by the deviation of colors in 0 to 1 instead of 0 to 255. One batch of
16 on one device where they divide it among several and synchronize, which has the same statistics; the weights that are
evaluated are rounded to float16.
Tested: built at full size with a ResNet-50; trained and evaluated at reduced size on a CPU. No run of the whole
schedule has been made with this file.
Cost: 1,440,000 crops. Computed, not measured: .76 EFLOP of convolutions, forward and backward, or 5 GPU-hours if a GPU
sustains 40 TFLOP/s; 19 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, loading, schedules, segmenters

protocol = dict(
    id="paper_city_seg_fcn_moco_90k",
    version=1,
    title="Cityscapes semantic segmentation, FCN of MoCo's paper, 90k",
    short_title="Cityscapes seg FCN MoCo",
    track="paper",
    task="semantic segmentation",
    dataset="cityscapes",
    headline="mIoU",
    plan=dict(
        batch_size=16,
        iterations=90_000,
        learning_rate=0.01,
        final_learning_rate=0.0001,
        norm_weight_decay=0.0001,
        output_stride=16,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_crop, _workers = (769, 769), "run:workers"

default_scope = "mmseg"
model = segmenters.dilation6_fcn(crop=_crop, classes=19, align_corners=True, testing=dict(mode="whole"))

train_dataloader = loading.train_loader(
    datasets.cityscapes_segmentation(
        "train", loading.segmentation_training(size=None, ratios=(0.5, 2.0), crop=_crop, most=1)
    ),
    _plan,
    workers=_workers,
)
test_dataloader = loading.test_loader(
    datasets.cityscapes_segmentation("val", loading.segmentation_testing(None)), batch_size=1, workers=_workers
)
test_evaluator = dict(type="SegmentationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0001)
param_scheduler = schedules.drops(_plan, milestones=[63_000, 81_000])
