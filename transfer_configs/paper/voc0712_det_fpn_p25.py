"""VOC 2007+2012 detection from 25 % of the labels, Faster R-CNN FPN of family A, 4,500 iterations; AP of 20 classes.

Purpose: How many labels does the backbone save? See `voc0712_det_fpn_p1.py`.
Metric: AP (%), VOC's 11-point average precision averaged over IoU .50:.05:.95 as detectron2 computes it; also AP50,
AP75, and pycocotools' AP. On the whole of VOC 2007 test.
Architecture: that of `voc0712_det_fpn_18k.py`.
Schedule: that of `voc0712_det_fpn_18k.py` in a quarter of its iterations: shares up to 25 % have the same schedule, so
that labels alone differ. 16 images per iteration, SGD at .02 from iteration 100 on, a tenth from 3,000 and from 4,000
on; weight decay .0001, none of norms.
Differs from the papers: there is none to follow: few papers fine-tune on such shares, and none gives lists. Each seed
trains on another fold: 25 % of the images of VOC 2007 trainval and of VOC 2012 trainval, of each year for itself (1,253
+ 2,885). Lists are fixed and without replacement: the images whose `FOLD/NAME` has the smallest SHA-256 (fold 0:
`NAME`); a larger share contains every smaller one of its fold. `labelled.txt` in the run's folder is the list, and the
result holds its hash.
Published: none that can be compared. Means over five folds.
Tested: trained and evaluated at reduced size with a ResNet-18 on a CPU as the whole protocol; the lists against a plain
computation. No run of the whole schedule has been made with this file.
Cost: 72,000 images seen. Computed, not measured: .048 EFLOP of convolutions and linear layers, forward and backward, or
.33 GPU-hours if a GPU sustains 40 TFLOP/s; 19 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.paper import voc0712_det_fpn_18k as base
from transfer_configs.parts import detectron2 as d2
from transfer_configs.parts import few_labels, schedules

protocol = few_labels.protocol(base.protocol, "paper_voc0712_det_fpn", percent=25, iterations=4_500)
bf16_modules = base.bf16_modules
_plan = protocol["plan"]

default_scope = base.default_scope
model = base.model

train_dataloader = few_labels.training(base.train_dataloader, _plan)
test_dataloader = base.test_dataloader
test_evaluator = base.test_evaluator

train_cfg = schedules.train_loop(_plan)
test_cfg = base.test_cfg
optim_wrapper = base.optim_wrapper
param_scheduler = d2.steps(_plan, warm_up=100, milestones=[3_000, 4_000])
