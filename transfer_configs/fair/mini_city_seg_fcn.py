"""Cityscapes-format segmentation at small size, learning rate chosen; mIoU.

Purpose: the sweep of track fair at reduced size, to see it on a CPU, and for screening.
Metric: that of `mini_city_seg_fcn`, and so are data, model and schedule.
Choice: learning rates of the backbone of .001, .002, .005, .01 and .02 (of the head ten times as much), each with a
weight decay of .0005: five runs of a quarter of the iterations for every checkpoint, trained without one whole city of
train and evaluated on these (`bench.datasets.shares.hold_out`). The best one's rate is used with every seed.
Cost: about that of two runs of `mini_city_seg_fcn` and one more for each seed (40 s each on one CPU core).
"""

from transfer_configs.mini import city_seg_fcn as base
from transfer_configs.parts import sweeps

protocol = sweeps.chosen(base.protocol, version=2)
bf16_modules = base.bf16_modules
sweep = sweeps.sweep(
    protocol,
    learning_rates=[0.001, 0.002, 0.005, 0.01, 0.02],
    weight_decays=[0.0005],
    held_out=1,
    held_out_by="folder",
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
