"""COCO detection and instance segmentation, Mask R-CNN FPN of family B, 90,000 iterations; box and mask AP.

Purpose: the transfer of InfoMin, DenseCL, PixPro, SlotCon, ORL and InstanceLoc's baselines to COCO. Not comparable
with family A (`coco_mrcnn_fpn_1x_a.py`).
Metric: box AP (%) of pycocotools; also mask AP and both at IoU .50 and .75 and by object size.
Architecture: that of family A, but batch normalization in both heads, too, and a box head of four convolutions and one
fully connected layer.
Schedule: as family A: 16 images per iteration, SGD at .02 from iteration 1,000 on, a tenth from 60,000 and from 80,000
on; weight decay .0001, none of norms. Short side 640, 672, ... or 800 in training, 800 in evaluation.
Differs from the papers: `transfer_configs/parts/detectron2.py`; one batch of 16 where they have 8 of 2 and synchronize.
Published (box/mask AP, single runs): MoCo v2 of 200 epochs 39.8/36.1, which a run should meet within .7/.7, and of 800
epochs 40.4/36.4; MoCo v1 39.4/35.6; supervised 39.7/35.9; PixPro of 100 epochs 40.8/36.8; random 32.8/29.9. (SoCo's and
InstanceLoc's own rows begin with a pretrained pyramid and box head.)
Tested: trained and evaluated at reduced size with a ResNet-18 on a CPU; matching against a plain computation, COCO's AP
against pycocotools. No run of the whole schedule has been made with this file.
Cost: 1,440,000 images seen. Computed, not measured: 2.3 EFLOP of convolutions and linear layers, forward and backward,
with 128 masks per image, or 16 GPU-hours if a GPU sustains 40 TFLOP/s; 34 GiB for parameters, gradients, momentum, and
what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_mrcnn_fpn_1x_b",
    version=1,
    title="COCO detection and instance segmentation, Mask R-CNN FPN, family B, 1x",
    short_title="COCO Mask R-CNN FPN B 1x",
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
model = d2.mask_rcnn_fpn(classes=80, norm_in_heads=True)

train_dataloader = d2.coco_training(_plan)
test_dataloader = d2.coco_testing()
test_evaluator = datasets.coco_metric("val2017", ("bbox", "segm"))

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[60_000, 80_000])
