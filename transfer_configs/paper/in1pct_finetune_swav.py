"""ImageNet classification, fine-tuned with 1 % of the labels (SimCLR's list) as in SwAV; top-1.

Purpose: how many labels does the backbone save? The semi-supervised protocol of the literature with SwAV's settings.
Train: the 12,811 images of SimCLR's list. Test: ImageNet's val (50,000).
Metric: top-1 (%) of the val images; also top-5, and the mean accuracy of the classes. Nothing is rounded.
Architecture: the checkpoint's ResNet, and a linear layer with a score for each class on the mean of its last map, which
starts from PyTorch's own distributions. Batch normalization in training mode everywhere.
Schedule: 256 images per iteration: random crops of 8 to 100 % of the image at 224 pixels, flipped, no other change.
SGD, momentum .9, without weight decay; learning rate .02 of the backbone and 5 of the linear layer, times .2 from epoch
12 and from epoch 16 on; 20 epochs of 51 iterations. Tested on the central 224 pixels after the short side was scaled to
256.
Differs from the papers: its code reports the best epoch on val; here the last one counts, and values should be a little
lower. It divides red by .228, here the card says by what. The last batch of an epoch is whole here (there, what is
left), and epochs pass into each other. The weights that are evaluated are rounded to float16.
Published: none that is confirmed in SwAV's code; those of `paper_in1pct_finetune_openselfsup` are of other settings.
Tested: settings against the authors' code, whose facts alone were read; squares and crops against torchvision, the loss
and its gradients against a plain computation; trained and evaluated at reduced size on a CPU, and killed on the way,
which changes no bit. No run of the whole schedule has been made with this file.
Cost: 261,120 crops. Computed, not measured: .0064 EFLOP of convolutions, forward and backward, or .05 GPU-hours if a
GPU sustains 40 TFLOP/s; 21 GiB for parameters, gradients, momentum, and what is kept for backward.
"""

from transfer_configs.parts import classifiers, loading, schedules

protocol = dict(
    id="paper_in1pct_finetune_swav",
    version=1,
    title="ImageNet classification, fine-tuned with 1 % of the labels as in SwAV",
    short_title="IN 1 % tuned, SwAV",
    track="paper",
    task="image classification",
    dataset="imagenet-1percent",
    headline="top-1",
    plan=dict(
        batch_size=256,
        iterations=20 * 51,
        learning_rate=0.02,
        final_learning_rate=0.0008,
        head_learning_rate=5.0,
        norm_weight_decay=0.0,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_workers = "run:workers"

default_scope = "mmengine"
model = classifiers.linear_on_mean()

train_dataloader = loading.train_loader(classifiers.training(protocol["dataset"], 224), _plan, workers=_workers)
test_dataloader = loading.test_loader(classifiers.testing(protocol["dataset"], 224), batch_size=64, workers=_workers)
test_evaluator = dict(type="ClassificationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0)
param_scheduler = schedules.drops(_plan, milestones=[12 * 51, 16 * 51], factor=0.2)
