"""COCO detection and instance segmentation, Mask R-CNN FPN as R2O trains it, batches of 64; box and mask AP.

Purpose: the transfer of R2O to COCO, and of DetCon in its authors' implementation: 12 epochs in batches of 64. Not
comparable with `coco_mrcnn_fpn_1x_b.py`, although the network is the same.
Metric: box AP (%) of pycocotools; also mask AP and both at IoU .50 and .75 and by object size.
Architecture: that of `coco_mrcnn_fpn_1x_b.py`; statistics of batch normalization over 12,800 training images at the
end.
Schedule: 64 images per iteration, 24,000 iterations, SGD at .1 from iteration 500 on, a tenth from 16,000 and from
21,333 on; weight decay .00004, none of norms. Short side 640, 672, ... or 800 in training, 800 in evaluation.
Differs from the papers: `transfer_configs/parts/detectron2.py`; one batch of 64 where they have 16 of 4 and
synchronize. Their config normalizes all heads, but the file that it builds on was not published: that the box head has
four convolutions, and images 640 to 800 pixels, is taken from family B, whose config is the same otherwise.
Published (box/mask AP, single runs, 300 epochs on ImageNet; how much runs differ is not known): R2O 41.7/38.3, DetCon
(re-implementation) 41.5/38.3.
Tested: trained and evaluated at reduced size with a ResNet-18 on a CPU; matching against a plain computation, COCO's AP
against pycocotools. No run of the whole schedule has been made with this file.
Cost: 1,536,000 images seen. Computed, not measured: 2.5 EFLOP of convolutions and linear layers, forward and backward,
with 128 masks per image, or 17 GPU-hours if a GPU sustains 40 TFLOP/s; 128 GiB for parameters, gradients, momentum, and
what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_mrcnn_fpn_r2o_24k",
    version=1,
    title="COCO detection and instance segmentation, Mask R-CNN FPN as R2O trains it, 24k",
    short_title="COCO Mask R-CNN FPN R2O",
    track="paper",
    task="instance segmentation",
    dataset="coco2017",
    headline="bbox_AP",
    plan=dict(
        batch_size=64,
        iterations=24_000,
        learning_rate=0.1,
        final_learning_rate=0.001,
        norm_weight_decay=0.0,
        precise_bn_images=12_800,
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
optim_wrapper = schedules.sgd(_plan, weight_decay=0.00004)
param_scheduler = d2.steps(_plan, warm_up=500, milestones=[16_000, 21_333])
