"""ImageNet classification, a linear layer on the frozen backbone as in SwAV; top-1.

Purpose: the linear evaluation of the literature with SwAV's settings, which are also those of Barlow Twins' code.
Train: ImageNet's train (1,281,167). Test: its val (50,000).
Metric: top-1 (%) of the val images; also top-5, and the mean accuracy of the classes. Nothing is rounded.
Architecture: the checkpoint's ResNet in evaluation mode, batch normalization included, and a linear layer with a score
for each class on the mean of its last map, which starts from N(0, .01) and zero biases and alone is trained.
Schedule: 256 images per iteration: random crops of 8 to 100 % of the image at 224 pixels, flipped, no other change.
SGD, momentum .9, weight decay .000001; learning rate .3, which falls after each of 100 epochs of 5,005 iterations along
a cosine to 0. Tested on the central 224 pixels after the short side was scaled to 256.
Differs from the papers: both codes report the best epoch on val; here the last one counts. SwAV's divides red by .228,
here the card says by what. The last batch of an epoch is whole here (there, what is left), and epochs pass into each
other.
Published: Barlow Twins 73.5 top-1, 91.0 top-5 (1,000 epochs).
Tested: settings against the authors' code, whose facts alone were read, and against PyTorch's own schedules; squares
and crops against torchvision, the loss against a plain computation; trained and evaluated at reduced size on a CPU,
where no tensor of the backbone changes. No run of the whole schedule has been made with this file.
Cost: 128,128,000 crops. Computed, not measured: 1.1 EFLOP of convolutions, forward alone, or 7.3 GPU-hours if a GPU
sustains 40 TFLOP/s; 4 GiB for parameters and the largest maps. Reading and decoding the images may take longer.
"""

from transfer_configs.parts import classifiers, loading, schedules

protocol = dict(
    id="paper_in1k_linear_swav",
    version=1,
    title="ImageNet classification, linear layer on the frozen backbone as in SwAV",
    short_title="IN linear, SwAV",
    track="paper",
    task="image classification",
    dataset="imagenet",
    headline="top-1",
    plan=dict(
        batch_size=256,
        iterations=100 * 5005,
        learning_rate=0.3,
        final_learning_rate=7.4016e-5,
        norm_weight_decay=1e-6,
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
optim_wrapper = schedules.sgd(_plan, weight_decay=1e-6)
param_scheduler = schedules.cosine(_plan, every=5005)
