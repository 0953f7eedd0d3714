"""COCO detection and instance segmentation, Mask R-CNN C4, 12,000 iterations; box and mask AP.

Purpose: how well a backbone is fine-tuned in few iterations, which DetCo reports beside `coco_mrcnn_c4_1x.py`.
Metric: box AP (%) of pycocotools; also mask AP and both at IoU .50 and .75 and by object size.
Architecture: that of `coco_mrcnn_c4_1x.py`.
Schedule: the same with 12,000 iterations, a tenth from 9,000 and from 11,000 on; the warm-up still takes 1,000.
Differs from the papers: as `coco_mrcnn_c4_1x.py`. DetCo's repository has this schedule; the settings to which it is
added are in none, and taken from RegionCL's file of the same name, except its long side of at most 1,200.
Published (box/mask AP, single runs): supervised 27.1/24.7; MoCo v1 26.9/24.6; MoCo v2 of 200 epochs 27.6/25.1; SwAV
16.5/16.1; DetCo 29.3/26.5; random 7.9/7.6.
Tested: settings compared with those of `coco_mrcnn_c4_1x.py`. No run of the whole schedule has been made with this
file.
Cost: 192,000 images seen. Computed, not measured: .58 EFLOP of convolutions and linear layers, forward and backward,
with 128 masks per image, or 4 GPU-hours if a GPU sustains 40 TFLOP/s; 63 GiB for parameters, gradients, momentum, and
what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_mrcnn_c4_12k",
    version=1,
    title="COCO detection and instance segmentation, Mask R-CNN C4, 12k",
    short_title="COCO Mask R-CNN C4 12k",
    track="paper",
    task="instance segmentation",
    dataset="coco2017",
    headline="bbox_AP",
    plan=dict(
        batch_size=16,
        iterations=12_000,
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
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[9_000, 11_000])
