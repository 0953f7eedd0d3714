"""COCO Mask R-CNN FPN of family B, 1x, learning rate and weight decay chosen; box AP.

Purpose: what a checkpoint gives where one learning rate for all does not favor any: read it beside
`paper_coco_mrcnn_fpn_1x_b`, which has the papers' rate.
Metric: that of `paper_coco_mrcnn_fpn_1x_b`, and so are data, model and schedule; its file says what differs from the
papers.
Choice: learning rates of .005, .01, .02, .04 and .1, each with a weight decay of .0001 and of 0: ten runs of a quarter
of the iterations for every checkpoint, trained without 5,000 images of train2017 and evaluated on these
(`bench.datasets.shares.hold_out`). The best one's settings are used with every seed.
Cost: beyond that of the runs with all seeds, two and a half of them; `densebench protocols --hours` adds up.
"""

from transfer_configs.paper import coco_mrcnn_fpn_1x_b as base
from transfer_configs.parts import sweeps

protocol = sweeps.chosen(base.protocol)
bf16_modules = base.bf16_modules
sweep = sweeps.sweep(
    protocol,
    learning_rates=sweeps.DETECTION,
    weight_decays=[0.0001, 0.0],
    held_out=5_000,
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
