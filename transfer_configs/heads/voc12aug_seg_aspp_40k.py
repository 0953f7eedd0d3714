"""VOC 2012 segmentation with SBD's masks, pretrained ASPP head of output stride 16, 40,000 iterations; mIoU.

Purpose: what a method gives that pretrains a segmentation head with its backbone, as CP2 does. The head is loaded, too;
only its classifier starts at random. Read it beside `voc12aug_seg_aspp_40k_random.py`, which differs in nothing but the
head, and never beside protocols whose heads start at random. Train: the 10,582 images of train_aug, with VOC's masks,
and SBD's of images without one. Test: VOC 2012 val (1,449).
Metric: mIoU (%) of 21 classes from one confusion matrix of the whole val set at the images' own size, 255 ignored; a
class that is in no label and no prediction is left out. Nothing is rounded (mmseg: to two decimals).
Architecture: the checkpoint's ResNet with its 7x7 stem; layer4 is dilated by 2 (its first block by 1) and has no
stride. Head on it, with CP2's sizes: the image's mean, a 1x1 and three 3x3 convolutions dilated by 6, 12 and 18, each
of 512 channels, a 3x3 convolution on all of them, dropout .1, a classifier; no auxiliary head. A head of another kind
or size is refused. Batch normalization in training mode everywhere.
Schedule: 16 crops of 512 per iteration; SGD at .003, momentum .9, no weight decay; no warm-up; to .0001 along
(1 - progress) ** .9. Images are resized to .5 to 2 times the size whose short side is 512, cropped, flipped and changed
in color. Tested whole, short side 512.
Published (mIoU): 78.6, CP2's quick tuning of 20 epochs from MoCo v2 of 800 epochs, from the paper's abstract; which
checkpoint gave it, the number of runs and how much they differ are not known, so no tolerance is given.
Differs from the paper: CP2's file has 4 images per GPU and does not say how many GPUs; four are taken, as 16 images per
iteration are usual. One batch of 16 on one device, which has the same statistics; the weights that are evaluated are
rounded to float16. Padding has the mean color.
Tested: built at full size with a ResNet-50; trained and evaluated at reduced size on a CPU. No run of the whole
schedule has been made with this file.
Cost: 640,000 crops. Computed, not measured: .29 EFLOP of convolutions, forward and backward, or 2 GPU-hours if a GPU
sustains 40 TFLOP/s; 10 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, loading, schedules, segmenters

protocol = dict(
    id="heads_voc12aug_seg_aspp_40k",
    version=1,
    title="PASCAL VOC 2012 segmentation with SBD's masks, pretrained ASPP head, 40k",
    short_title="VOC12aug seg ASPP, its head",
    track="heads",
    task="semantic segmentation",
    dataset="voc2012aug_seg",
    headline="mIoU",
    plan=dict(
        batch_size=16,
        iterations=40_000,
        learning_rate=0.003,
        final_learning_rate=0.0001,
        norm_weight_decay=0.0,
        output_stride=16,
        pretrained_head=True,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_size, _crop, _workers = (2048, 512), (512, 512), "run:workers"

default_scope = "mmseg"
model = segmenters.dilated_aspp(crop=_crop, classes=21, channels=512, dilations=(1, 6, 12, 18))

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
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0)
param_scheduler = schedules.poly(_plan)
