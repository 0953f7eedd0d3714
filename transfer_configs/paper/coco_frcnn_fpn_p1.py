"""COCO detection from 1 % of the labels, Faster R-CNN FPN of family A, 1,800 iterations; box AP.

Purpose: How many labels does the backbone save? With 1, 5 and 10 % (`coco_frcnn_fpn_p5.py`, `coco_frcnn_fpn_p10.py`)
values form a curve.
Metric: box AP (%) of pycocotools on the whole of val2017; also at IoU .50 and .75 and by object size.
Architecture: that of `coco_mrcnn_fpn_1x_a.py` without masks. Batch normalization in training mode everywhere, its
statistics recomputed over 3,200 training images at the end.
Schedule: 16 images per iteration for 24 epochs of the share, SGD at .02 from iteration 90 on, a tenth from 1,200 and
from 1,600 on; weight decay .0001, none of norms. Short side 640, 672, ... or 800 in training, 800 in evaluation.
Differs from the papers: there is none to follow: DenseCL and SoCo give neither lists nor schedules in code. Each seed
trains on another fold: 1 % of the images of train2017 (1,183), before those without an object are left out. Lists are
fixed and without replacement: the images whose `FOLD/NAME` has the smallest SHA-256 (fold 0: `NAME`); a larger share
contains every smaller one of its fold. `labelled.txt` in the run's folder is the list, and the result holds its hash.
Published: none that can be compared; lists, schedules and detectors of others differ. Means over five folds.
Tested: trained and evaluated at reduced size with a ResNet-18 on a CPU; the lists against a plain computation. No run
of the whole schedule has been made with this file.
Cost: 28,800 images seen. Computed, not measured: .024 EFLOP of convolutions and linear layers, forward and backward, or
.2 GPU-hours if a GPU sustains 40 TFLOP/s; 24 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_coco_frcnn_fpn_p1",
    version=1,
    title="COCO object detection from 1 % of the labels, Faster R-CNN FPN, family A",
    short_title="COCO Faster R-CNN FPN 1 %",
    track="paper",
    task="detection",
    dataset="coco2017",
    headline="bbox_AP",
    plan=dict(
        batch_size=16,
        iterations=1_800,
        learning_rate=0.02,
        final_learning_rate=0.0002,
        norm_weight_decay=0.0,
        precise_bn_images=3_200,
        labels=0.01,
    ),
)
bf16_modules = []
_plan = protocol["plan"]

default_scope = "mmdet"
model = d2.faster_rcnn_fpn(classes=80)

train_dataloader = d2.coco_training(_plan, masks=False)
test_dataloader = d2.coco_testing()
test_evaluator = datasets.coco_metric("val2017", ("bbox",))

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=90, milestones=[1_200, 1_600])
