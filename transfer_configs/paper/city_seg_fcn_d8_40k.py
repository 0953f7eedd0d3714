"""Cityscapes segmentation, FCN of output stride 8, all layers trained, 40,000 iterations of 8 crops of 769; mIoU.

Purpose: DenseCL's Cityscapes segmentation. Train: 2,975 images. Test: val (500).
Metric: mIoU (%) of 19 classes from one confusion matrix of the whole val set at the images' own size, 255 ignored; a
class that is in no label and no prediction is left out. Nothing is rounded (mmseg: to two decimals).
Architecture: the checkpoint's ResNet with its 7x7 stem; layer3 and layer4 are dilated by 2 and 4 and have no stride,
their first blocks are dilated by half of that (contract_dilation). Head on layer4: two 3x3 convolutions of 512
channels, a third on their input and result concatenated, dropout .1, a classifier. Auxiliary head on layer3: one
convolution of 256 channels, weight .4. Scores are resized with aligned corners. Batch normalization in training mode
everywhere.
Schedule: 8 crops of 769 per iteration; SGD at .01, momentum .9, weight decay .0005 of every parameter; no warm-up; to
.0001 along (1 - progress) ** .9. Images are resized to .5 to 2 times 2049 x 1025, cropped, flipped and changed in
color. Tested at 2049 x 1025 in windows of 769, 513 apart, whose scores are averaged.
Published: none that could be verified for the 7x7 stem. DenseCL's Cityscapes values stand in the paper only, and
mmseg's supervised 71.47 (769, 40k) has a deep stem: not comparable.
Differs from the papers: one batch of 8 on one device where they synchronize four of 2, which has the same statistics;
the last iteration has the final learning rate exactly; the weights that are evaluated are rounded to float16. Padding
has the mean color, as in mmseg 0.x, which they used (1.x: black).
Tested: built at full size with a ResNet-50; trained and evaluated at reduced size on a CPU. No run of the whole
schedule has been made with this file.
Cost: 320,000 crops. Computed, not measured: .91 EFLOP of convolutions, forward and backward, or 6 GPU-hours if a GPU
sustains 40 TFLOP/s; 20 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, loading, schedules, segmenters

protocol = dict(
    id="paper_city_seg_fcn_d8_40k",
    version=1,
    title="Cityscapes semantic segmentation, FCN of stride 8, 40k",
    short_title="Cityscapes seg FCN d8",
    track="paper",
    task="semantic segmentation",
    dataset="cityscapes",
    headline="mIoU",
    plan=dict(
        batch_size=8,
        iterations=40_000,
        learning_rate=0.01,
        final_learning_rate=0.0001,
        norm_weight_decay=0.0005,
        output_stride=8,
        auxiliary_weight=0.4,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_size, _crop, _workers = (2049, 1025), (769, 769), "run:workers"

default_scope = "mmseg"
model = segmenters.dilated_fcn(
    crop=_crop,
    classes=19,
    auxiliary_weight=_plan["auxiliary_weight"],
    align_corners=True,
    testing=dict(mode="slide", crop_size=_crop, stride=(513, 513)),
)

train_dataloader = loading.train_loader(
    datasets.cityscapes_segmentation(
        "train", loading.segmentation_training(size=_size, ratios=(0.5, 2.0), crop=_crop, distort=True)
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
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0005)
param_scheduler = schedules.poly(_plan)
