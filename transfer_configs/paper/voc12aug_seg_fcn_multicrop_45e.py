"""VOC 2012 segmentation with SBD's masks, the multi-crop study's FCN of stride 16, 45 epochs; mIoU.

Purpose: what Van Gansbeke et al. ("Revisiting Contrastive Methods", NeurIPS 2021) report for backbones pretrained on
COCO. Train: the 10,582 images of train_aug. Test: VOC 2012 val (1,449).
Metric: mIoU (%) of 21 classes from one confusion matrix of the whole val set at the images' own size, 255 ignored.
Images are predicted at 512 x 512, and the predicted labels resized to the nearest. Nothing is rounded.
Architecture: the checkpoint's ResNet with its 7x7 stem; layer4 has no stride, and all its 3x3 convolutions are dilated
by 2. Head on layer4: two 3x3 convolutions of 256 channels, dilated by 6, and a classifier; no dropout. Batch
normalization in training mode everywhere.
Schedule: 16 images of 512 x 512, each resized whole with its sides' ratio lost, flipped, turned by up to 5 degrees and
scaled by .75 to 1.25 before; what nothing covers then is black, and background. SGD at .003, momentum .9, weight decay
.0001 of every parameter; 29,745 iterations (45 epochs of 661), a tenth from epoch 31 and from epoch 41 on, counted
from 0, as the authors' code does.
Published (mIoU, means of five runs, of the best of 45 epochs on val each): COCO, 200 epochs: MoCo 66.2, the study's own
71.9; 800 epochs: MoCo 71.1, own 73.5. Here the last epoch is evaluated: values should be a little lower.
Differs from the papers: the last epoch, as said; the classifier has a bias; weights of the head start from mmseg's
distributions; epochs pass into each other. The weights that are evaluated are rounded to float16.
Tested: settings against the authors' code, whose facts alone were read; the turned images and resized labels against
OpenCV; built at full size; trained and evaluated at reduced size on a CPU. No run of the whole schedule has been made
with this file.
Cost: 475,920 images. Computed, not measured: .11 EFLOP of convolutions, forward and backward, or .8 GPU-hours if a GPU
sustains 40 TFLOP/s; 9 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, loading, schedules, segmenters

protocol = dict(
    id="paper_voc12aug_seg_fcn_multicrop_45e",
    version=1,
    title="PASCAL VOC 2012 segmentation with SBD's masks, FCN of the multi-crop study, 45 epochs",
    short_title="VOC12aug seg FCN multi-crop",
    track="paper",
    task="semantic segmentation",
    dataset="voc2012aug_seg",
    headline="mIoU",
    plan=dict(
        batch_size=16,
        iterations=45 * 661,
        learning_rate=0.003,
        final_learning_rate=0.00003,
        norm_weight_decay=0.0001,
        output_stride=16,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_size, _workers = (512, 512), "run:workers"
_resize = dict(type="Resize", scale=_size, keep_ratio=False, interpolation="bicubic")

default_scope = "mmseg"
model = segmenters.dilation6_fcn(crop=_size, classes=21, align_corners=False, testing=dict(mode="whole"))
model |= dict(type="LabelResizingSegmenter")
model["backbone"] |= dict(contract_dilation=False)
model["decode_head"] |= dict(loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True))

train_dataloader = loading.train_loader(
    datasets.voc_augmented_segmentation(
        [
            dict(type="LoadStoredImage"),
            dict(type="LoadLabelMap"),
            dict(type="RandomFlip", prob=0.5),
            dict(type="ScaleAndRotate", degrees=5, ratios=(0.75, 1.25)),
            dict(_resize),
            dict(type="PackSegInputs"),
        ]
    ),
    _plan,
    workers=_workers,
)
test_dataloader = loading.test_loader(
    datasets.voc_segmentation("val", loading.segmentation_testing(dict(_resize))), batch_size=1, workers=_workers
)
test_evaluator = dict(type="SegmentationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0001)
param_scheduler = schedules.drops(_plan, milestones=[31 * 661, 41 * 661])
