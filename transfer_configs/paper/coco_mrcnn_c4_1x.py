"""COCO detection and instance segmentation, Mask R-CNN C4, 90,000 iterations; box and mask AP.

Purpose: the transfer of MoCo, DenseCL, PixPro, SoCo and InsLoc to COCO without a feature pyramid. Not comparable with
the families of `coco_mrcnn_fpn_1x_a.py` and `coco_mrcnn_fpn_1x_b.py`.
Metric: box AP (%) of pycocotools; also mask AP and both at IoU .50 and .75 and by object size.
Architecture: that of `voc0712_det_c4_24k.py` with 80 classes, and a mask of 14 x 14 cells of each positive region by a
transposed convolution of 256 channels, from what res5 and the additional normalization give. Batch normalization in
training mode everywhere, its statistics recomputed over 3,200 training images at the end.
Schedule: 16 images per iteration, SGD at .02 from iteration 1,000 on, a tenth from 60,000 and from 80,000 on; weight
decay .0001, none of norms. Short side 640, 672, ... or 800 in training, 800 in evaluation.
Differs from the papers: `transfer_configs/parts/detectron2.py`; one batch of 16 where they have 8 of 2, whose
statistics they synchronize or average.
Published (box/mask AP, single runs): MoCo v2 of 200 epochs 38.9/34.1, and 38.7/33.9 as the mean of four runs of others,
which a run should meet within .5/.5 of 38.8/34.0; of 800 epochs 39.3/34.3; MoCo v1 38.5/33.6; PixPro of 400 epochs
40.5/35.3; supervised 38.2/33.3; random 26.4/29.3. Not comparable: SoCo's 40.9/35.3 (weight decay .000025).
Tested: trained and evaluated at reduced size with a ResNet-18 on a CPU; matching against a plain computation, COCO's AP
against pycocotools. No run of the whole schedule has been made with this file.
Cost: 1,440,000 images seen. Computed, not measured: 4.3 EFLOP of convolutions and linear layers, forward and backward,
with 128 masks per image, or 30 GPU-hours if a GPU sustains 40 TFLOP/s; 63 GiB for parameters, gradients, momentum, and
what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_mrcnn_c4_1x",
    version=1,
    title="COCO detection and instance segmentation, Mask R-CNN C4, 1x",
    short_title="COCO Mask R-CNN C4 1x",
    track="paper",
    task="instance segmentation",
    dataset="coco2017",
    headline="bbox_AP",
    plan=dict(
        batch_size=16,
        iterations=90_000,
        learning_rate=0.02,
        final_learning_rate=0.0002,
        norm_weight_decay=0.0,
        precise_bn_images=3_200,
    ),
)
bf16_modules = []
_plan = protocol["plan"]

default_scope = "mmdet"
model = d2.rcnn_c4(classes=80, masks=True)

train_dataloader = d2.coco_training(_plan)
test_dataloader = d2.coco_testing()
test_evaluator = datasets.coco_metric("val2017", ("bbox", "segm"))

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[60_000, 80_000])
