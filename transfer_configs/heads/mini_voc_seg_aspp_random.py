"""VOC semantic segmentation, ASPP head that starts at random, all layers trained; mIoU of 21 classes.

Purpose: what `mini_voc_seg_aspp.py` gives without the pretrained head, so that one sees what the head alone gives.
Metric: that of `mini_voc_seg_aspp.py`, and so are data, architecture and schedule.
Cost: that of `mini_voc_seg_aspp.py`.
"""

from transfer_configs.heads import mini_voc_seg_aspp as base
from transfer_configs.parts import segmenters

protocol = segmenters.with_random_head(base.protocol)
bf16_modules = base.bf16_modules

default_scope = base.default_scope
model = base.model

train_dataloader = base.train_dataloader
test_dataloader = base.test_dataloader
test_evaluator = base.test_evaluator

train_cfg = base.train_cfg
test_cfg = base.test_cfg
optim_wrapper = base.optim_wrapper
param_scheduler = base.param_scheduler
