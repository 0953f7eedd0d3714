"""ImageNet classification, a linear layer on the frozen backbone as in BYOL; top-1.

Purpose: the linear evaluation of the literature with the settings of BYOL's code, without its choice of a rate.
Train: ImageNet's train (1,281,167). Test: its val (50,000).
Metric: top-1 (%) of the val images; also top-5, and the mean accuracy of the classes. Nothing is rounded.
Architecture: the checkpoint's ResNet in evaluation mode, batch normalization included, and a linear layer with a score
for each class on the mean of its last map, which starts from N(0, .022) and zero biases and alone is trained.
Schedule: 1,024 images per iteration: random crops of 8 to 100 % of the image at 224 pixels, flipped, no other change.
SGD with Nesterov's momentum .9, no weight decay; learning rate .8, which falls with each iteration along a cosine to 0;
100,091 iterations, which are 80 epochs. Tested on the central 224 pixels after the short side was scaled to 256.
Differs from the papers: the paper chooses among five learning rates (.05 to .4) by 10,000 held-out training images;
here it is that of the code for all. Images are scaled by Pillow's bilinear filter, there by TensorFlow's bicubic one,
which does not smooth; a crop is drawn up to ten times until it fits, there its sides are cut. Its first weights are
drawn within two standard deviations. Epochs pass into each other.
Published: BYOL 74.3 top-1 and 91.6 top-5 (1,000 epochs), with the rate that the paper chose.
Tested: settings against the authors' code, whose facts alone were read, and against PyTorch's own schedules; squares
and crops against torchvision, the loss against a plain computation; trained and evaluated at reduced size on a CPU,
where no tensor of the backbone changes. No run of the whole schedule has been made with this file.
Cost: 102,493,184 crops. Computed, not measured: .84 EFLOP of convolutions, forward alone, or 5.8 GPU-hours if a GPU
sustains 40 TFLOP/s; 12 GiB for parameters and the largest maps. Reading and decoding the images may take longer.
"""

from transfer_configs.parts import classifiers, loading, schedules

protocol = dict(
    id="paper_in1k_linear_byol",
    version=1,
    title="ImageNet classification, linear layer on the frozen backbone as in BYOL",
    short_title="IN linear, BYOL",
    track="paper",
    task="image classification",
    dataset="imagenet",
    headline="top-1",
    plan=dict(
        batch_size=1024,
        iterations=100_091,
        learning_rate=0.8,
        final_learning_rate=1.9704e-10,
        norm_weight_decay=0.0,
        frozen=True,
    ),
)
bf16_modules = []
_plan = protocol["plan"]
_workers = "run:workers"

default_scope = "mmengine"
model = classifiers.linear_on_mean(std=0.022)

train_dataloader = loading.train_loader(classifiers.training(protocol["dataset"], 224), _plan, workers=_workers)
test_dataloader = loading.test_loader(classifiers.testing(protocol["dataset"], 224), batch_size=64, workers=_workers)
test_evaluator = dict(type="ClassificationMetric")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0, nesterov=True)
param_scheduler = schedules.cosine(_plan, every=1)
