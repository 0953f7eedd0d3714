"""VOC 2012 segmentation with SBD's masks, FCN of output stride 8, all layers trained, 20,000 iterations; mIoU.

Purpose: what DenseCL and mmselfsup report as VOC segmentation. Train: the 10,582 images of train_aug, with VOC's masks,
and SBD's of images without one. Test: VOC 2012 val (1,449).
Metric: mIoU (%) of 21 classes from one confusion matrix of the whole val set at the images' own size, 255 ignored; a
class that is in no label and no prediction is left out. Nothing is rounded (mmseg: to two decimals).
Architecture: the checkpoint's ResNet with its 7x7 stem; layer3 and layer4 are dilated by 2 and 4 and have no stride,
their first blocks are dilated by half of that (contract_dilation). Head on layer4: two 3x3 convolutions of 512
channels, a third on their input and result concatenated, dropout .1, a classifier. Auxiliary head on layer3: one
convolution of 256 channels, weight .4. Batch normalization in training mode everywhere.
Schedule: 16 crops of 512 per iteration; SGD at .01, momentum .9, weight decay .0005 of every parameter; no warm-up; to
.0001 along (1 - progress) ** .9. Images are resized to .5 to 2 times the size whose short side is 512, cropped, flipped
and changed in color. Tested whole, short side 512.
Published (mIoU, means of five runs; a run should meet them within .7): ImageNet, 200 epochs: MoCo v2 67.5, DenseCL
69.4, DenseCL with ResNet-101 74.1. COCO: MoCo v2 of 800 epochs 64.5, DenseCL of 800 epochs 67.5, of 1600 epochs 68.0.
Differs from the papers: one batch of 16 on one device where they synchronize four of 4, which has the same statistics;
the last iteration has the final learning rate exactly; the weights that are evaluated are rounded to float16. Padding
has the mean color, as in mmseg 0.x, which they used (1.x: black).
Tested: built at full size with a ResNet-50; trained and evaluated at reduced size on a CPU, and killed ten times on the
way, which changes no bit. No run of the whole schedule has been made with this file.
Cost: 320,000 crops. Computed, not measured: .40 EFLOP of convolutions, forward and backward, or 3 GPU-hours if a GPU
sustains 40 TFLOP/s; 18 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, loading, schedules, segmenters

protocol = dict(
    id="paper_voc12aug_seg_fcn_d8_20k",
    version=1,
    title="PASCAL VOC 2012 segmentation with SBD's masks, FCN of stride 8, 20k",
    short_title="VOC12aug seg FCN d8",
    track="paper",
    task="semantic segmentation",
    dataset="voc2012aug_seg",
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
    crop=_crop, classes=21, auxiliary_weight=_plan["auxiliary_weight"], testing=dict(mode="whole")
)

train_dataloader = loading.train_loader(
    datasets.voc_augmented_segmentation(
        loading.segmentation_training(size=_size, ratios=(0.5, 2.0), crop=_crop, distort=True)
    ),
    _plan,
    workers=_workers,
)
test_dataloader = loading.test_loader(
    datasets.voc_segmentation("val", loading.segmentation_testing(loading.fit(_size))), batch_size=1, workers=_workers
)
test_evaluator = dict(type="SegmentationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0005)
param_scheduler = schedules.poly(_plan)
