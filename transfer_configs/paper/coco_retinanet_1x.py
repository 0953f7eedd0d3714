"""COCO detection, RetinaNet with a feature pyramid, 90,000 iterations; box AP.

Purpose: a one-stage detector: what DetCo and RegionCL report beside Mask R-CNN.
Metric: box AP (%) of pycocotools; also at IoU .50 and .75 and by object size.
Architecture: levels P3 to P7 of 256 channels, P3 to P5 with batch normalization; P6 and P7 are convolutions of C5 and
of relu(P6) without (mmdet: with it, and without the ReLU). Heads of four convolutions for classes and for boxes without
normalization; nine anchors per cell. All anchors are trained on but those whose IoU is between .4 and .5. Focal loss of
gamma 2 and alpha .25, L1 loss of boxes. Batch normalization in training mode everywhere, its statistics recomputed over
3,200 training images at the end.
Schedule: 16 images per iteration, SGD at .01 from iteration 1,000 on (two-stage detectors: .02), a tenth from 60,000
and from 80,000 on; weight decay .0001, none of norms. Short side 640, 672, ... or 800 in training, 800 in evaluation.
Differs from the papers: `transfer_configs/parts/detectron2.py`; one batch of 16 where they have 8 of 2 and synchronize.
The losses are divided by the moving average of the whole batch's positive anchors (detectron2: of those on each GPU).
Published (single runs): supervised 37.4, which a run should meet within .7; MoCo v1 36.3; MoCo v2 of 200 epochs 37.2;
DetCo of 200 epochs 38.0; random 24.5 (DetCo's table); RegionCL-M 38.4, RegionCL-D 38.8, RegionCL-S 36.8.
Tested: the focal loss against a float64 loop and torchvision's, the moving average and the pyramid against their
definitions, matching against a plain computation, COCO's AP against pycocotools; trained and evaluated at reduced size
with a ResNet-18 on a CPU. No run of the whole schedule has been made with this file.
Cost: 1,440,000 images seen. Computed, not measured: 1.5 EFLOP of convolutions, forward and backward, or 10 GPU-hours if
a GPU sustains 40 TFLOP/s; 23 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_retinanet_1x",
    version=1,
    title="COCO object detection, RetinaNet FPN, 1x",
    short_title="COCO RetinaNet 1x",
    track="paper",
    task="detection",
    dataset="coco2017",
    headline="bbox_AP",
    plan=dict(
        batch_size=16,
        iterations=90_000,
        learning_rate=0.01,
        final_learning_rate=0.0001,
        norm_weight_decay=0.0,
        precise_bn_images=3_200,
    ),
)
bf16_modules = []
_plan = protocol["plan"]

default_scope = "mmdet"
model = d2.retinanet(classes=80)

train_dataloader = d2.coco_training(_plan, masks=False)
test_dataloader = d2.coco_testing()
test_evaluator = datasets.coco_metric("val2017", ("bbox",))

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[60_000, 80_000])
