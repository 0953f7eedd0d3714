"""VOC 2007+2012 detection, Faster R-CNN C4, all layers trained, 24,000 iterations; AP of 20 classes.

Purpose: the reference of self-supervised detection: MoCo, DenseCL, PixPro, InfoMin, SynCo, and, as their papers say,
SoCo, DetCo and ReSim. Training: VOC 2007 trainval and 2012 trainval (5,011 + 11,540 images), including objects
marked difficult. Evaluation: VOC 2007 test (4,952).
Metric: AP (%), VOC's 11-point average precision averaged over IoU .50:.05:.95 as detectron2 computes it; also AP50,
AP75, and pycocotools' AP, which is another value.
Architecture: conv1 to res4 of the checkpoint; proposals from res4 (stride 16, 15 anchors, 1,024 channels); of each
region 14 x 14 cells, then the checkpoint's res5 and one more batch normalization, mean, classes and boxes. Batch
normalization in training mode everywhere, its statistics recomputed over 3,200 training images at the end.
Schedule: 16 images per iteration, SGD at .02 from iteration 100 on, a tenth from 18,000 and from 22,000 on; weight
decay .0001, none of norms. Short side 480, 512, ... or 800 in training, 800 in evaluation.
Differs from the papers: `transfer_configs/parts/detectron2.py`; one batch of 16 where they have 8 of 2, whose
statistics they synchronize or average.
Published (AP/AP50/AP75, means of five runs, which deviate by .2/.2/.4): MoCo v2 of 200 epochs 57.0/82.4/63.6, which
a mean should meet within .5/.5/1.0, and of 800 epochs 57.4/82.5/64.0; MoCo v1 55.9/81.5/62.6; DenseCL of 200
epochs 58.7 AP; PixPro of 100 epochs 58.8/83.0/66.5; supervised 53.5/81.3/58.8 (BGR, strides on 1x1, another network
than torchvision's); random 33.8/60.2/33.1.
Tested: built at full size with a ResNet-50; trained and evaluated at reduced size on a CPU, and killed ten times on the
way, which changes no bit; matching, metric, res5 and its norm each against a plain computation. No run of the whole
schedule has been made with this file.
Cost: 384,000 images seen. Computed, not measured: 1.1 EFLOP of convolutions and linear layers, forward and backward, or
8 GPU-hours if a GPU sustains 40 TFLOP/s; 58 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import detectron2 as d2
from transfer_configs.parts import schedules

protocol = dict(
    id="paper_voc0712_det_c4_24k",
    version=1,
    title="PASCAL VOC 2007+2012 object detection, Faster R-CNN C4, 24k",
    short_title="VOC07+12 Faster R-CNN C4",
    track="paper",
    task="detection",
    dataset="voc0712_det",
    headline="AP",
    plan=dict(
        batch_size=16,
        iterations=24_000,
        learning_rate=0.02,
        final_learning_rate=0.0002,
        norm_weight_decay=0.0,
        precise_bn_images=3_200,
    ),
)
bf16_modules = []
_plan = protocol["plan"]

default_scope = "mmdet"
model = d2.rcnn_c4(classes=20)

train_dataloader = d2.voc0712_training(_plan)
test_dataloader = d2.voc07_testing()
test_evaluator = dict(type="VOCDetectionMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=100, milestones=[18_000, 22_000])
