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

from transfer_configs.parts import classifiers, datasets, loading, schedules

protocol = dict(
    id="mini_in1k_finetune_p10",
    version=1,
    title="ImageNet classification, fine-tuned with 10 % of the labels",
    short_title="IN 10 % tuned",
    track="mini",
    task="image classification",
    dataset="imagenet",
    headline="top-1",
    plan=dict(
        batch_size=16,
        iterations=320,
        learning_rate=0.01,
        final_learning_rate=0.0004,
        head_learning_rate=0.005,
        norm_weight_decay=0.0,
        labels=0.1,
    ),
)
bf16_modules = ["backbone"]
_plan = protocol["plan"]
_share = datasets.share(_plan["labels"])

default_scope = "mmengine"
model = classifiers.linear_on_mean()

train_dataloader = loading.train_loader(classifiers.training(protocol["dataset"], 96, **_share), _plan)
test_dataloader = loading.test_loader(classifiers.testing(protocol["dataset"], 96), batch_size=32)
test_evaluator = dict(type="ClassificationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0)
param_scheduler = schedules.drops(_plan, milestones=[192, 256], factor=0.2)
