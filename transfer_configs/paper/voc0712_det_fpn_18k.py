"""VOC 2007+2012 detection, Faster R-CNN FPN of family A, all layers trained, 18,000 iterations; AP of 20 classes.

Purpose: a third of the cost of `voc0712_det_c4_24k.py` for the same question; also how a backbone does with a feature
pyramid. Training: VOC 2007 trainval and 2012 trainval (5,011 + 11,540 images), including objects marked difficult.
Evaluation: VOC 2007 test (4,952).
Metric: AP (%), VOC's 11-point average precision averaged over IoU .50:.05:.95 as detectron2 computes it; also AP50,
AP75, and pycocotools' AP, which is another value.
Architecture: that of `coco_mrcnn_fpn_1x_a.py` without masks, with 20 classes. Batch normalization in training mode
everywhere, its statistics recomputed over 3,200 training images at the end.
Schedule: 16 images per iteration, SGD at .02 from iteration 100 on, a tenth from 12,000 and from 16,000 on; weight
decay .0001, none of norms. Short side 480, 512, ... or 800 in training, 800 in evaluation.
Differs from the papers: `transfer_configs/parts/detectron2.py`; no paper has this protocol: the schedule is that of
detectron2's own config for VOC, which is of a C4 detector with frozen layers.
Published: none that can be compared.
Tested: trained and evaluated at reduced size with a ResNet-18 on a CPU; matching and metric each against a plain
computation. No run of the whole schedule has been made with this file.
Cost: 288,000 images seen. Computed, not measured: .19 EFLOP of convolutions and linear layers, forward and backward, or
1.3 GPU-hours if a GPU sustains 40 TFLOP/s; 19 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import detectron2 as d2
from transfer_configs.parts import schedules

protocol = dict(
    id="paper_voc0712_det_fpn_18k",
    version=1,
    title="PASCAL VOC 2007+2012 object detection, Faster R-CNN FPN, family A, 18k",
    short_title="VOC07+12 Faster R-CNN FPN",
    track="paper",
    task="detection",
    dataset="voc0712_det",
    headline="AP",
    plan=dict(
        batch_size=16,
        iterations=18_000,
        learning_rate=0.02,
        final_learning_rate=0.0002,
        norm_weight_decay=0.0,
        precise_bn_images=3_200,
    ),
)
bf16_modules = []
_plan = protocol["plan"]

default_scope = "mmdet"
model = d2.faster_rcnn_fpn(classes=20)

train_dataloader = d2.voc0712_training(_plan)
test_dataloader = d2.voc07_testing()
test_evaluator = dict(type="VOCDetectionMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=100, milestones=[12_000, 16_000])
