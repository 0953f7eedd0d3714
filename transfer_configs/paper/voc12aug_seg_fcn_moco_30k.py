"""VOC 2012 segmentation with SBD's masks, FCN of MoCo's paper, all layers trained, 30,000 iterations; mIoU.

Purpose: VOC segmentation as MoCo, BYOL and SlotCon report it. Not comparable with `voc12aug_seg_fcn_d8_20k.py`:
dilation and crops alone give several points more. Train: the 10,582 images of train_aug. Test: VOC 2012 val (1,449).
Metric: mIoU (%) of 21 classes from one confusion matrix of the whole val set at the images' own size, 255 ignored; a
class that is in no label and no prediction is left out. Nothing is rounded (mmseg: to two decimals).
Architecture: the checkpoint's ResNet with its 7x7 stem; layer4 is dilated by 2 (its first block by 1) and has no
stride. Head on it: two 3x3 convolutions of 256 channels, each dilated by 6, and a classifier; no dropout, no auxiliary
head. Scores are resized with aligned corners. Batch normalization in training mode everywhere.
Schedule: 16 crops of 513 per iteration; SGD at .003, momentum .9, weight decay .0001 of every parameter; no warm-up; a
tenth from 21,000 and from 27,000 on. Images are resized to .5 to 2 times their own size, cropped and flipped. Tested
whole, at their own size.
Published: MoCo's paper (mIoU, means of five runs): MoCo v1 72.5, supervised 74.4. How much runs differ is not known, so
no tolerance is given. BYOL's paper has 76.3 for BYOL, with the best of several learning rates.
Differs from the papers: MoCo's code was never published; this is its paper's description, and SlotCon's reconstruction
of it, with the card's normalization (SlotCon divides by the deviation of colors in 0 to 1 instead of 0 to 255) and with
ratios of each image's own size (SlotCon: of 2049 x 513). Aligned corners, the dilation of layer4's first block, and a
loss that is the mean over all pixels, ignored ones among them, are SlotCon's. One batch of 16 on one device where they
divide it among several and synchronize, which has the same statistics; the weights that are evaluated are rounded to
float16.
Tested: built at full size with a ResNet-50; trained and evaluated at reduced size on a CPU. No run of the whole
schedule has been made with this file.
Cost: 480,000 crops. Computed, not measured: .11 EFLOP of convolutions, forward and backward, or .8 GPU-hours if a GPU
sustains 40 TFLOP/s; 9 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, loading, schedules, segmenters

protocol = dict(
    id="paper_voc12aug_seg_fcn_moco_30k",
    version=1,
    title="PASCAL VOC 2012 segmentation with SBD's masks, FCN of MoCo's paper, 30k",
    short_title="VOC12aug seg FCN MoCo",
    track="paper",
    task="semantic segmentation",
    dataset="voc2012aug_seg",
    headline="mIoU",
    plan=dict(
        batch_size=16,
        iterations=30_000,
        learning_rate=0.003,
        final_learning_rate=0.00003,
        norm_weight_decay=0.0001,
        output_stride=16,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_crop, _workers = (513, 513), "run:workers"

default_scope = "mmseg"
model = segmenters.dilation6_fcn(crop=_crop, classes=21, align_corners=True, testing=dict(mode="whole"))

train_dataloader = loading.train_loader(
    datasets.voc_augmented_segmentation(
        loading.segmentation_training(size=None, ratios=(0.5, 2.0), crop=_crop, most=1)
    ),
    _plan,
    workers=_workers,
)
test_dataloader = loading.test_loader(
    datasets.voc_segmentation("val", loading.segmentation_testing(None)), batch_size=1, workers=_workers
)
test_evaluator = dict(type="SegmentationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0001)
param_scheduler = schedules.drops(_plan, milestones=[21_000, 27_000])
