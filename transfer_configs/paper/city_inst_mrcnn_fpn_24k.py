"""Cityscapes instance segmentation, Mask R-CNN FPN of family A, 24,000 iterations; mask AP of 8 classes.

Purpose: the transfer of MoCo, DetCo and RegionCL to instances in street scenes, thin and far ones among them.
Metric: AP (%) of masks as Cityscapes' own evaluation defines it, which is not COCO's; also its AP50, and pycocotools'
AP and AP50 of boxes.
Architecture: that of `coco_mrcnn_fpn_1x_a.py` with 8 classes; statistics of batch normalization over 1,600 training
images at the end. Nothing but the checkpoint is loaded, where stock configs begin with a detector trained on COCO.
Schedule: 8 images per iteration, SGD at .01 from iteration 1,000 on, a tenth from 18,000 on; weight decay .0001, none
of norms. Short side 800, 832, ... or 1024 in training, 1024 in evaluation.
Differs from the papers: `transfer_configs/parts/detectron2.py`; one batch of 8 where they have 8 of 1 and synchronize;
boxes and masks are those of the visible pixels (detectron2: of the drawn outlines).
Published (AP/AP50 of masks, single runs; how much runs differ is not known): RegionCL-M 34.9/62.5. MoCo v1 32.3/59.3,
MoCo v2 33.9/60.8, supervised 32.9/59.6 and random 25.4/51.1 are DetCo's, whose settings are not known in full.
Tested: trained and evaluated at reduced size with a ResNet-18 on a CPU; Cityscapes' AP against a plain computation and
against Cityscapes' own script. No run of the whole schedule has been made with this file.
Version 2: the objects are trained on; version 1 gave mmdet masks in a form for which it ignores an object.
Cost: 192,000 images seen. Computed, not measured: .44 EFLOP of convolutions and linear layers, forward and backward,
with 128 masks per image, or 3 GPU-hours if a GPU sustains 40 TFLOP/s; 29 GiB for parameters, gradients, momentum, and
what is kept for backward.
"""

from transfer_configs.parts import detectron2 as d2
from transfer_configs.parts import schedules

protocol = dict(
    id="paper_city_inst_mrcnn_fpn_24k",
    version=2,
    title="Cityscapes instance segmentation, Mask R-CNN FPN, 24k",
    short_title="Cityscapes Mask R-CNN FPN",
    track="paper",
    task="instance segmentation",
    dataset="cityscapes_inst",
    headline="AP",
    plan=dict(
        batch_size=8,
        iterations=24_000,
        learning_rate=0.01,
        final_learning_rate=0.001,
        norm_weight_decay=0.0,
        precise_bn_images=1_600,
    ),
)
bf16_modules = []
_plan = protocol["plan"]

default_scope = "mmdet"
model = d2.mask_rcnn_fpn(classes=8, norm_in_heads=False)

train_dataloader = d2.cityscapes_training(_plan)
test_dataloader = d2.cityscapes_testing()
test_evaluator = dict(type="CityscapesInstanceMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[18_000])
