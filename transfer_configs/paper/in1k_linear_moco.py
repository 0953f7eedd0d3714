"""ImageNet classification, a linear layer on the frozen backbone as in MoCo; top-1.

Purpose: the linear evaluation of the literature with MoCo's settings, which most methods with a queue report.
Train: ImageNet's train (1,281,167). Test: its val (50,000).
Metric: top-1 (%) of the val images; also top-5, and the mean accuracy of the classes. Nothing is rounded.
Architecture: the checkpoint's ResNet in evaluation mode, batch normalization included, and a linear layer with a score
for each class on the mean of its last map, which starts from N(0, .01) and zero biases and alone is trained.
Schedule: 256 images per iteration: random crops of 8 to 100 % of the image at 224 pixels, flipped, no other change.
SGD, momentum .9, no weight decay; learning rate 30, times .1 from epoch 60 and from epoch 80 on; 100 epochs of 5,005
iterations. Tested on the central 224 pixels after the short side was scaled to 256.
Differs from the papers: its code keeps the best epoch on val; here the last one counts. The last batch of an epoch is
whole here (there, what is left), and epochs pass into each other.
Published: top-1 of MoCo v1 60.6, MoCo v2 67.7, DenseCL 63.5 (200 epochs), MoCo v2 71.1 (800 epochs).
Tested: settings against the authors' code, whose facts alone were read, and against PyTorch's own schedules; squares
and crops against torchvision, the loss against a plain computation; trained and evaluated at reduced size on a CPU,
where no tensor of the backbone changes. No run of the whole schedule has been made with this file.
Cost: 128,128,000 crops. Computed, not measured: 1.1 EFLOP of convolutions, forward alone, or 7.3 GPU-hours if a GPU
sustains 40 TFLOP/s; 4 GiB for parameters and the largest maps. Reading and decoding the images may take longer.
"""

from transfer_configs.parts import classifiers, loading, schedules

protocol = dict(
    id="paper_in1k_linear_moco",
    version=1,
    title="ImageNet classification, linear layer on the frozen backbone as in MoCo",
    short_title="IN linear, MoCo",
    track="paper",
    task="image classification",
    dataset="imagenet",
    headline="top-1",
    plan=dict(
        batch_size=256,
        iterations=100 * 5005,
        learning_rate=30.0,
        final_learning_rate=0.3,
        norm_weight_decay=0.0,
        frozen=True,
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
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0)
param_scheduler = schedules.drops(_plan, milestones=[60 * 5005, 80 * 5005])
