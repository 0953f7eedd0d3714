"""COCO detection, FCOS with a feature pyramid, 90,000 iterations; box AP.

Purpose: a detector without anchors: what DenseCL reports, by AdelaiDet.
Metric: box AP (%) of pycocotools; also at IoU .50 and .75 and by object size.
Architecture: levels P3 to P7 of 256 channels, P3 to P5 with batch normalization; P6 and P7 are convolutions of P5 and
of relu(P6) without. Heads of four convolutions with group normalization for classes and for boxes; cells within 1.5
strides of an object's center learn it. Focal loss of gamma 2 and alpha .25; GIoU loss of boxes, weighted by their
centerness, which is learned from the boxes' features. Batch normalization in training mode everywhere, its statistics
recomputed over 3,200 training images at the end.
Schedule: 16 images per iteration, SGD at .01 from iteration 1,000 on, a tenth from 60,000 and from 80,000 on; weight
decay .0001, none of norms. Short side 640, 672, ... or 800 in training, 800 in evaluation.
Differs from the papers: `transfer_configs/parts/detectron2.py`; one batch of 16 where they have 8 of 2 and synchronize.
Settings are those of AdelaiDet's code at the commit that added DenseCL's configuration.
Published (single runs): supervised 39.9, which a run should meet within .7; MoCo v2 of 200 epochs 40.3; DenseCL of 200
epochs 40.9.
Tested: the losses, the candidates and the scores against plain computations, the pyramid against its definition, and
COCO's AP against pycocotools; trained and evaluated at reduced size with a ResNet-18 on a CPU. No run of the whole
schedule has been made with this file.
Cost: 1,440,000 images seen. Computed, not measured: 1.3 EFLOP of convolutions, forward and backward, or 9 GPU-hours if
a GPU sustains 40 TFLOP/s; 24 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_fcos_1x",
    version=1,
    title="COCO object detection, FCOS FPN, 1x",
    short_title="COCO FCOS 1x",
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
model = d2.fcos(classes=80)

train_dataloader = d2.coco_training(_plan, masks=False)
test_dataloader = d2.coco_testing()
test_evaluator = datasets.coco_metric("val2017", ("bbox",))

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[60_000, 80_000])
