"""Cityscapes segmentation from 10 % of the labels, FCN of output stride 8, 10,000 iterations; mIoU.

Purpose: How many labels does the backbone save? See `city_seg_fcn_d8_p1.py`.
Metric: mIoU (%) of 19 classes from one confusion matrix of the whole val set at the images' own size, 255 ignored.
Architecture: that of `city_seg_fcn_d8_40k.py`.
Schedule: that of `city_seg_fcn_d8_40k.py` in a quarter of its iterations: shares up to 25 % have the same schedule, so
that labels alone differ. 8 crops of 769 per iteration; SGD at .01, weight decay .0005 of every parameter; to .0001
along (1 - progress) ** .9.
Differs from the papers: there is none to follow: few papers fine-tune on such shares, and none gives lists. Each seed
trains on another fold: 10 % of the images of train (298). Lists are fixed and without replacement: the images whose
`FOLD/NAME` has the smallest SHA-256 (fold 0: `NAME`); a larger share contains every smaller one of its fold.
`labelled.txt` in the run's folder is the list, and the result holds its hash.
Published: none that can be compared. Means over five folds.
Tested: the whole protocol at reduced size on a CPU; the lists against a plain computation. No run of the whole schedule
has been made with this file.
Cost: 80,000 images seen. Computed, not measured: .23 EFLOP of convolutions and linear layers, forward and backward, or
1.5 GPU-hours if a GPU sustains 40 TFLOP/s; 20 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.paper import city_seg_fcn_d8_40k as base
from transfer_configs.parts import few_labels, schedules

protocol = few_labels.protocol(base.protocol, "paper_city_seg_fcn_d8", percent=10, iterations=10_000)
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
param_scheduler = schedules.poly(_plan)
