"""VOC 2012 segmentation, FCN of output stride 8, 20,000 iterations, learning rate and weight decay chosen; mIoU.

Purpose: what a checkpoint gives where one learning rate for all does not favor any: read it beside
`paper_voc12aug_seg_fcn_d8_20k`, which has the papers' rate.
Metric: that of `paper_voc12aug_seg_fcn_d8_20k`, and so are data, model and schedule; its file says what differs from
the papers.
Choice: learning rates of .001, .003, .01, .03 and .1, each with a weight decay of .0005 and of 0: ten runs of a quarter
of the iterations for every checkpoint, trained without 10 % of the images of train_aug and evaluated on these
(`bench.datasets.shares.hold_out`). The best one's settings are used with every seed.
Cost: beyond that of the runs with all seeds, two and a half of them; `densebench protocols --hours` adds up.
"""

from transfer_configs.paper import voc12aug_seg_fcn_d8_20k as base
from transfer_configs.parts import sweeps

protocol = sweeps.chosen(base.protocol)
bf16_modules = base.bf16_modules
sweep = sweeps.sweep(
    protocol,
    learning_rates=sweeps.SEGMENTATION,
    weight_decays=[0.0005, 0.0],
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
