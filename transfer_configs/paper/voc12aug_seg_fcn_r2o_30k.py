"""VOC 2012 segmentation with SBD's masks, FCN as R2O trains it, all layers trained, 30,000 iterations; mIoU.

Purpose: VOC segmentation as R2O reports it, and DetCon in its authors' implementation. Not comparable with
`voc12aug_seg_fcn_d8_20k.py`. Train: the 10,582 images of train_aug. Test: VOC 2012 val (1,449).
Metric: mIoU (%) of 21 classes from one confusion matrix of the whole val set at the images' own size, 255 ignored; a
class that is in no label and no prediction is left out. Nothing is rounded (mmseg: to two decimals).
Architecture: the checkpoint's ResNet with its 7x7 stem; layer4 is dilated by 2 (its first block by 1) and has no
stride. Head on it: two 3x3 convolutions of 256 channels, each dilated by 6, a third on their input and result
concatenated, dropout .1, and a classifier. Auxiliary head on layer3: two convolutions like the first, dropout .1,
weight .2. Batch normalization in training mode everywhere.
Schedule: 16 crops of 513 per iteration; SGD at .01, momentum .9, weight decay .0001 of every parameter; no warm-up; a
tenth from 21,000 and from 27,000 on. Images are resized to .5 to 2 times their own size, cropped (of ten crops the
first of which no class fills 99 %) and flipped. Tested whole, at their own size.
Published: mIoU of single networks, 300 epochs on ImageNet: R2O 77.3, DetCon (re-implementation) 76.0. How much runs
differ is not known, so no tolerance is given.
Differs from the papers: one batch of 16 on one device where they divide it among several and synchronize, which has the
same statistics; the weights that are evaluated are rounded to float16. DetCon's own code, in JAX, differs.
Tested: built at full size with a ResNet-50; trained and evaluated at reduced size on a CPU. No run of the whole
schedule has been made with this file.
Cost: 480,000 crops. Computed, not measured: .14 EFLOP of convolutions, forward and backward, or 1 GPU-hours if a GPU
sustains 40 TFLOP/s; 9 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, loading, schedules, segmenters

protocol = dict(
    id="paper_voc12aug_seg_fcn_r2o_30k",
    version=1,
    title="PASCAL VOC 2012 segmentation with SBD's masks, FCN as R2O trains it, 30k",
    short_title="VOC12aug seg FCN R2O",
    track="paper",
    task="semantic segmentation",
    dataset="voc2012aug_seg",
    headline="mIoU",
    plan=dict(
        batch_size=16,
        iterations=30_000,
        learning_rate=0.01,
        final_learning_rate=0.0001,
        norm_weight_decay=0.0001,
        output_stride=16,
        auxiliary_weight=0.2,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_crop, _workers = (513, 513), "run:workers"

default_scope = "mmseg"
model = segmenters.dilation6_fcn(
    crop=_crop,
    classes=21,
    align_corners=False,
    dropout=0.1,
    concat_input=True,
    auxiliary_weight=_plan["auxiliary_weight"],
    testing=dict(mode="whole"),
)

train_dataloader = loading.train_loader(
    datasets.voc_augmented_segmentation(
        loading.segmentation_training(size=None, ratios=(0.5, 2.0), crop=_crop, most=0.99)
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
