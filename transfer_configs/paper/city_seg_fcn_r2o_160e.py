"""Cityscapes segmentation, FCN as R2O trains it, all layers trained, 160 epochs of crops of 769; mIoU.

Purpose: Cityscapes segmentation as R2O reports it, and DetCon in its authors' implementation. Not comparable with
`city_seg_fcn_d8_40k.py`. Train: 2,975 images. Test: val (500).
Metric: mIoU (%) of 19 classes from one confusion matrix of the whole val set at the images' own size, 255 ignored; a
class that is in no label and no prediction is left out. Nothing is rounded (mmseg: to two decimals).
Architecture: the checkpoint's ResNet with its 7x7 stem; layer4 is dilated by 2 (its first block by 1) and has no
stride. Head on it: two 3x3 convolutions of 256 channels, each dilated by 6, dropout .1, and a classifier; no auxiliary
head. Scores are resized with aligned corners. Batch normalization in training mode everywhere.
Schedule: 16 crops of 769 per iteration; SGD at .04, momentum .9, weight decay .0001 of every parameter; no warm-up;
29,760 iterations (160 epochs of 186), a tenth from 20,832 and from 26,784 on (epochs 112 and 144). Images are resized
to .5 to 2 times 2049 x 1025, cropped (of ten crops the first of which no class fills 99 %) and flipped. Tested whole at
2049 x 1025.
Published: mIoU of single networks, 300 epochs on ImageNet: R2O 76.6, DetCon (re-implementation) 76.2. How much runs
differ is not known, so no tolerance is given.
Differs from the papers: images are drawn from an endless shuffled sequence, not in epochs that begin anew; one batch of
16 on one device where they divide it among several and synchronize, which has the same statistics; the weights that are
evaluated are rounded to float16. DetCon's own code, in JAX, differs.
Tested: built at full size with a ResNet-50; trained and evaluated at reduced size on a CPU. No run of the whole
schedule has been made with this file.
Cost: 476,160 crops. Computed, not measured: .25 EFLOP of convolutions, forward and backward, or 2 GPU-hours if a GPU
sustains 40 TFLOP/s; 19 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, loading, schedules, segmenters

protocol = dict(
    id="paper_city_seg_fcn_r2o_160e",
    version=1,
    title="Cityscapes semantic segmentation, FCN as R2O trains it, 160 epochs",
    short_title="Cityscapes seg FCN R2O",
    track="paper",
    task="semantic segmentation",
    dataset="cityscapes",
    headline="mIoU",
    plan=dict(
        batch_size=16,
        iterations=29_760,
        learning_rate=0.04,
        final_learning_rate=0.0004,
        norm_weight_decay=0.0001,
        output_stride=16,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_size, _crop, _workers = (2049, 1025), (769, 769), "run:workers"

default_scope = "mmseg"
model = segmenters.dilation6_fcn(crop=_crop, classes=19, align_corners=True, dropout=0.1, testing=dict(mode="whole"))

train_dataloader = loading.train_loader(
    datasets.cityscapes_segmentation(
        "train", loading.segmentation_training(size=_size, ratios=(0.5, 2.0), crop=_crop, most=0.99)
    ),
    _plan,
    workers=_workers,
)
test_dataloader = loading.test_loader(
    datasets.cityscapes_segmentation("val", loading.segmentation_testing(loading.fit(_size))),
    batch_size=1,
    workers=_workers,
)
test_evaluator = dict(type="SegmentationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0001)
param_scheduler = schedules.drops(_plan, milestones=[20_832, 26_784])
