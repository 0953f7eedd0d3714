"""COCO detection, RetinaNet with a feature pyramid, 180,000 iterations; box AP.

Purpose: that of `coco_retinanet_1x.py`, twice as long.
Metric: box AP (%) of pycocotools; also at IoU .50 and .75 and by object size.
Architecture: that of `coco_retinanet_1x.py`.
Schedule: the same with 180,000 iterations, a tenth from 120,000 and from 160,000 on.
Differs from the papers: `transfer_configs/parts/detectron2.py`; one batch of 16 where they have 8 of 2 and synchronize.
The losses are divided by the moving average of the whole batch's positive anchors (detectron2: of those on each GPU).
Published (single runs): supervised 38.9, which a run should meet within .7; MoCo v1 38.7; MoCo v2 of 200 epochs 39.3;
DetCo of 200 epochs 39.8; random 32.2 (DetCo's table); RegionCL-M 40.1, RegionCL-D 40.6, RegionCL-S 39.1.
Tested: the focal loss against a float64 loop and torchvision's, the moving average and the pyramid against their
definitions, matching against a plain computation, COCO's AP against pycocotools; trained and evaluated at reduced size
with a ResNet-18 on a CPU. No run of the whole schedule has been made with this file.
Cost: 2,880,000 images seen. Computed, not measured: 2.9 EFLOP of convolutions, forward and backward, or 20 GPU-hours if
a GPU sustains 40 TFLOP/s; 23 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_retinanet_2x",
    version=1,
    title="COCO object detection, RetinaNet FPN, 2x",
    short_title="COCO RetinaNet 2x",
    track="paper",
    task="detection",
    dataset="coco2017",
    headline="bbox_AP",
    plan=dict(
        batch_size=16,
        iterations=180_000,
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
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[120_000, 160_000])
