"""COCO detection, RetinaNet with a feature pyramid, 12,000 iterations; box AP.

Purpose: how well a backbone is fine-tuned in few iterations, which DetCo reports beside `coco_retinanet_1x.py`.
Metric: box AP (%) of pycocotools; also at IoU .50 and .75 and by object size.
Architecture: that of `coco_retinanet_1x.py`.
Schedule: the same with 12,000 iterations, a tenth from 9,000 and from 11,000 on; the warm-up still takes 1,000.
Differs from the papers: as `coco_retinanet_1x.py`. DetCo's repository has this schedule; the settings to which it is
added are in none, and taken from RegionCL's file of the same name.
Published (box AP, single runs): supervised 24.3; MoCo v1 20.2; MoCo v2 of 200 epochs 22.2; SwAV 19.7; DetCo 23.6;
random 4.0.
Tested: settings compared with those of `coco_retinanet_1x.py`. No run of the whole schedule has been made with this
file.
Cost: 192,000 images seen. Computed, not measured: .20 EFLOP of convolutions, forward and backward, or 1.4 GPU-hours if
a GPU sustains 40 TFLOP/s; 23 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_retinanet_12k",
    version=1,
    title="COCO object detection, RetinaNet FPN, 12k",
    short_title="COCO RetinaNet 12k",
    track="paper",
    task="detection",
    dataset="coco2017",
    headline="bbox_AP",
    plan=dict(
        batch_size=16,
        iterations=12_000,
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
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[9_000, 11_000])
