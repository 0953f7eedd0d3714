"""COCO detection and instance segmentation, Mask R-CNN FPN of family A, 12,000 iterations; box and mask AP.

Purpose: how well a backbone is fine-tuned in few iterations, which DetCo reports beside `coco_mrcnn_fpn_1x_a.py`.
Metric: box AP (%) of pycocotools; also mask AP and both at IoU .50 and .75 and by object size.
Architecture: that of `coco_mrcnn_fpn_1x_a.py`.
Schedule: the same with 12,000 iterations, a tenth from 9,000 and from 11,000 on; the warm-up still takes 1,000.
Differs from the papers: as `coco_mrcnn_fpn_1x_a.py`. DetCo's repository has this schedule; the settings to which it is
added are in none, and taken from RegionCL's file of the same name.
Published (box/mask AP, single runs): supervised 28.4/26.4; MoCo v1 25.6/23.9; MoCo v2 of 200 epochs 26.6/24.8; SwAV
25.5/24.8; DetCo 27.9/26.0; random 10.7/10.3.
Tested: settings compared with those of `coco_mrcnn_fpn_1x_a.py`. No run of the whole schedule has been made with this
file.
Cost: 192,000 images seen. Computed, not measured: .24 EFLOP of convolutions and linear layers, forward and backward,
with 128 masks per image, or 1.6 GPU-hours if a GPU sustains 40 TFLOP/s; 28 GiB for parameters, gradients, momentum, and
what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_mrcnn_fpn_12k_a",
    version=1,
    title="COCO detection and instance segmentation, Mask R-CNN FPN, family A, 12k",
    short_title="COCO Mask R-CNN FPN A 12k",
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
model = d2.mask_rcnn_fpn(classes=80, norm_in_heads=False)

train_dataloader = d2.coco_training(_plan)
test_dataloader = d2.coco_testing()
test_evaluator = datasets.coco_metric("val2017", ("bbox", "segm"))

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[9_000, 11_000])
