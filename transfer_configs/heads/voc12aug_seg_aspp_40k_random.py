"""VOC 2012 segmentation with SBD's masks, ASPP head that starts at random, 40,000 iterations; mIoU.

Purpose: what `voc12aug_seg_aspp_40k.py` gives without the pretrained head, so that one sees what the head alone gives.
Metric: that of `voc12aug_seg_aspp_40k.py`, and so are data, architecture and schedule.
Published: none that can be compared.
Tested: built at full size with a ResNet-50; trained and evaluated at reduced size on a CPU. No run of the whole
schedule has been made with this file.
Cost: that of `voc12aug_seg_aspp_40k.py`.
"""

from transfer_configs.heads import voc12aug_seg_aspp_40k as base
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
