"""ADE20K segmentation, FCN of output stride 8, all layers trained, 80,000 iterations; mIoU.

Purpose: SlotCon's segmentation of ADE20K. Train: 20,210 images. Test: validation (2,000).
Metric: mIoU (%) of 150 classes from one confusion matrix of the whole val set at the images' own size; pixels of no
class (stored label 0) are ignored, and a class that is in no label and no prediction is left out. Nothing is rounded
(mmseg: to two decimals).
Architecture: that of `voc12aug_seg_fcn_d8_20k.py` with 150 classes.
Schedule: the same with 80,000 iterations.
Published: none that could be verified. SlotCon's values stand in the paper only, and mmseg's supervised 35.94 (80k) has
a deep stem: not comparable.
Differs from the papers: one batch of 16 on one device where SlotCon's configuration synchronizes four of 4, which has
the same statistics; the last iteration has the final learning rate exactly; the weights that are evaluated are rounded
to float16. Padding has the mean color, as in mmseg 0.x, which SlotCon used (1.x: black).
Tested: built at full size with a ResNet-50, and its settings compared with those of the VOC protocol; trained and
evaluated at reduced size on a CPU. No run of the whole schedule has been made with this file.
Cost: 1,280,000 crops. Computed, not measured: 1.6 EFLOP of convolutions, forward and backward, or 11 GPU-hours if a GPU
sustains 40 TFLOP/s; 18 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, loading, schedules, segmenters

protocol = dict(
    id="paper_ade20k_fcn_d8_80k",
    version=1,
    title="ADE20K semantic segmentation, FCN of stride 8, 80k",
    short_title="ADE20K seg FCN d8",
    track="paper",
    task="semantic segmentation",
    dataset="ade20k",
    headline="mIoU",
    plan=dict(
        batch_size=16,
        iterations=80_000,
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
    crop=_crop, classes=150, auxiliary_weight=_plan["auxiliary_weight"], testing=dict(mode="whole")
)

train_dataloader = loading.train_loader(
    datasets.ade20k("train", loading.segmentation_training(size=_size, ratios=(0.5, 2.0), crop=_crop, distort=True)),
    _plan,
    workers=_workers,
)
test_dataloader = loading.test_loader(
    datasets.ade20k("val", loading.segmentation_testing(loading.fit(_size))), batch_size=1, workers=_workers
)
test_evaluator = dict(type="SegmentationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0005)
param_scheduler = schedules.poly(_plan)
