"""ImageNet classification, fine-tuned with 1 % of the labels (SimCLR's list) as in OpenSelfSup; top-1.

Purpose: how many labels does the backbone save? The semi-supervised protocol of the literature with OpenSelfSup's
settings. Train: the 12,811 images of SimCLR's list. Test: ImageNet's val (50,000).
Metric: top-1 (%) of the val images; also top-5, and the mean accuracy of the classes. Nothing is rounded.
Architecture: the checkpoint's ResNet, and a linear layer with a score for each class on the mean of its last map, which
starts from N(0, .01) and zero biases. Batch normalization in training mode everywhere.
Schedule: 256 images per iteration: random crops of 8 to 100 % of the image at 224 pixels, flipped, no other change.
SGD, momentum .9, weight decay .0005 of every parameter; learning rate .01 of the backbone and 1 of the linear layer,
times .2 from epoch 12 and from epoch 16 on; 20 epochs of 51 iterations. Tested on the central 224 pixels after the
short side was scaled to 256.
Differs from the papers: it tries nine pairs of rates for each method on val and reports the best; here the rates are
one pair for all, the best one for most of its methods. The last batch of an epoch is whole here (there, what is left),
and epochs pass into each other. The weights that are evaluated are rounded to float16.
Published: top-1 of MoCo v2 39.07, SimCLR 36.09, MoCo 33.15, NPID 27.95 (200 epochs), Rotation 18.98, Relative Location
16.48 (70 epochs), of one run each: the methods for which these settings were the best of nine on val. Of others the
best were other settings (BYOL 49.37 with a tenth of the head's rate, random initialization 1.56).
Tested: settings against the authors' code, whose facts alone were read; squares and crops against torchvision, the loss
and its gradients against a plain computation; trained and evaluated at reduced size on a CPU, and killed on the way,
which changes no bit. No run of the whole schedule has been made with this file.
Cost: 261,120 crops. Computed, not measured: .0064 EFLOP of convolutions, forward and backward, or .05 GPU-hours if a
GPU sustains 40 TFLOP/s; 21 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import classifiers, loading, schedules

protocol = dict(
    id="paper_in1pct_finetune_openselfsup",
    version=1,
    title="ImageNet classification, fine-tuned with 1 % of the labels as in OpenSelfSup",
    short_title="IN 1 % tuned, OpenSelfSup",
    track="paper",
    task="image classification",
    dataset="imagenet-1percent",
    headline="top-1",
    plan=dict(
        batch_size=256,
        iterations=20 * 51,
        learning_rate=0.01,
        final_learning_rate=0.0004,
        head_learning_rate=1.0,
        norm_weight_decay=0.0005,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_workers = "run:workers"

default_scope = "mmengine"
model = classifiers.linear_on_mean(std=0.01)

train_dataloader = loading.train_loader(classifiers.training(protocol["dataset"], 224), _plan, workers=_workers)
test_dataloader = loading.test_loader(classifiers.testing(protocol["dataset"], 224), batch_size=64, workers=_workers)
test_evaluator = dict(type="ClassificationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0005)
param_scheduler = schedules.drops(_plan, milestones=[12 * 51, 16 * 51], factor=0.2)
