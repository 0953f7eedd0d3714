"""Semantic segmentation of own data at full size, FCN of output stride 8, 20,000 iterations, all layers trained; mIoU.

Purpose: does what the small protocols show hold at the size at which one would really train? Run where it is named.
Metric: mIoU (%) from the confusion matrix of all validation images at the images' own size. Pixels of values that the
description ignores do not count. With masks of objects, everything outside them is one more class, background.
Model, input size and schedule are those of paper_voc12aug_seg_fcn_d8_20k: 16 crops of 512 per iteration. They were
fixed for 10,582 images and are never chosen on the user's; of a few hundred images each is seen hundreds of times.
Tested: trained and evaluated at reduced size on a CPU. No run of the whole schedule has been made with this file.
Cost: 320,000 crops. Computed, not measured: 3 GPU-hours if a GPU sustains 40 TFLOP/s; 18 GiB.
"""

from transfer_configs.parts import datasets, loading, schedules, segmenters

protocol = dict(
    id="custom_seg_fcn_d8_20k",
    version=1,
    title="Semantic segmentation of own data at full size, FCN of stride 8, 20k",
    short_title="seg FCN d8, full size",
    track="custom",
    task="semantic segmentation",
    dataset="custom_seg",
    headline="mIoU",
    plan=dict(
        batch_size=16,
        iterations=20_000,
        learning_rate=0.01,
        final_learning_rate=0.0001,
        norm_weight_decay=0.0005,
        output_stride=8,
        auxiliary_weight=0.4,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_size, _crop, _workers = (2048, 512), (512, 512), "run:workers"

default_scope = "mmseg"
model = segmenters.dilated_fcn(
    crop=_crop, classes="data:labels", auxiliary_weight=_plan["auxiliary_weight"], testing=dict(mode="whole")
)

train_dataloader = loading.train_loader(
    datasets.own_segmentation(
        "train", loading.segmentation_training(size=_size, ratios=(0.5, 2.0), crop=_crop, distort=True)
    ),
    _plan,
    workers=_workers,
)
test_dataloader = loading.test_loader(
    datasets.own_segmentation("val", loading.segmentation_testing(loading.fit(_size))), batch_size=1, workers=_workers
)
test_evaluator = dict(type="SegmentationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0005)
param_scheduler = schedules.poly(_plan)
