"""ImageNet classification, all layers fine-tuned with 10 % of the labels, small; top-1.

Purpose: how many labels does the backbone save, if all of it is trained? Beside `frozen_in1k_linear_p10`.
Cost: about 3 minutes on one CPU core with ResNet-18 (bfloat16), and the images of val.
Metric: top-1 (%) of the val images; also the mean over classes, and with more than five classes top-5.
Data: any folder tree `imagenet/{train,val}/CLASS/IMAGE`, with ImageNet's classes or others.
A small version of the semi-supervised protocol of SwAV (`paper_in10pct_finetune_swav`): a linear layer on the mean of
the last map, random crops of 96 pixels, tested on the central 96 of 109. With few classes large rates of this layer
diverge: it has half of the backbone's. The labels are those of 10 % of each class's training images (at least two),
whose `FOLD/NAME` has the smallest SHA-256; the fold is the seed (fold 0: `NAME`, the list of `frozen_in1k_linear_p10`),
and `labelled.txt` lists them.
"""

from transfer_configs.mini import in1k_finetune_p1 as base
from transfer_configs.parts import few_labels

protocol = {
    **base.protocol,
    "id": "mini_in1k_finetune_p10",
    "title": "ImageNet classification, fine-tuned with 10 % of the labels",
    "short_title": "IN 10 % tuned",
    "plan": {**base.protocol["plan"], "labels": 0.1},
}
bf16_modules = base.bf16_modules

default_scope = base.default_scope
model = base.model

train_dataloader = few_labels.training(base.train_dataloader, protocol["plan"])
test_dataloader = base.test_dataloader
test_evaluator = base.test_evaluator

train_cfg = base.train_cfg
test_cfg = base.test_cfg
optim_wrapper = base.optim_wrapper
param_scheduler = base.param_scheduler
