"""COCO detection and instance segmentation, Mask R-CNN C4, 180,000 iterations; box and mask AP.

Purpose: that of `coco_mrcnn_c4_1x.py`, twice as long: what MoCo, OpenSelfSup, InsLoc, DetCo and RegionCL report.
Metric: box AP (%) of pycocotools; also mask AP and both at IoU .50 and .75 and by object size.
Architecture: that of `coco_mrcnn_c4_1x.py`.
Schedule: the same with 180,000 iterations, a tenth from 120,000 and from 160,000 on.
Differs from the papers: `transfer_configs/parts/detectron2.py`; one batch of 16 where they have 8 of 2, whose
statistics they synchronize or average.
Published (box/mask AP, single runs): MoCo v1 40.7/35.4, which a run should meet within .8/.7; MoCo v2 of 200 epochs
40.7/35.6, of 800 epochs 41.2/35.8; InsLoc of 200 epochs 41.4/35.9; RegionCL-M 41.5/35.9 (long side of at most 1,200);
supervised 40.0/34.7; random 35.6/31.4.
Tested: trained and evaluated at reduced size with a ResNet-18 on a CPU; matching against a plain computation, COCO's AP
against pycocotools. No run of the whole schedule has been made with this file.
Cost: 2,880,000 images seen. Computed, not measured: 8.7 EFLOP of convolutions and linear layers, forward and backward,
with 128 masks per image, or 60 GPU-hours if a GPU sustains 40 TFLOP/s; 63 GiB for parameters, gradients, momentum, and
what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_mrcnn_c4_2x",
    version=1,
    title="COCO detection and instance segmentation, Mask R-CNN C4, 2x",
    short_title="COCO Mask R-CNN C4 2x",
    track="paper",
    task="instance segmentation",
    dataset="coco2017",
    headline="bbox_AP",
    plan=dict(
        batch_size=16,
        iterations=180_000,
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
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[120_000, 160_000])
