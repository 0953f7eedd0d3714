"""COCO Mask R-CNN at small size, learning rate chosen; box AP.

Purpose: the sweep of track fair at reduced size, to see it on a CPU, and for screening.
Metric: that of `mini_coco_mrcnn_fpn`, and so are data, model and schedule.
Choice: learning rates of the backbone of .00001, .00003, .0001, .0003 and .001 (of pyramid and heads ten times as
much), each with a weight decay of .05: five runs of a quarter of the iterations for every checkpoint, trained without
10 % of the images of train2017 and evaluated on these (`bench.datasets.shares.hold_out`). The best one's rate is used
with every seed.
Cost: about that of two runs of `mini_coco_mrcnn_fpn` and one more for each seed (90 s each on one CPU core).
Version 2: AdamW, as in version 3 of `mini_coco_mrcnn_fpn`.
"""

from transfer_configs.mini import coco_mrcnn_fpn as base
from transfer_configs.parts import sweeps

protocol = sweeps.chosen(base.protocol, version=2)
bf16_modules = base.bf16_modules
sweep = sweeps.sweep(
    protocol,
    learning_rates=[0.00001, 0.00003, 0.0001, 0.0003, 0.001],
    weight_decays=[0.05],
    held_out=0.1,
)

default_scope = base.default_scope
model = base.model

train_dataloader = base.train_dataloader
test_dataloader = base.test_dataloader
test_evaluator = base.test_evaluator

train_cfg = base.train_cfg
test_cfg = base.test_cfg
optim_wrapper = base.optim_wrapper
param_scheduler = base.param_scheduler
