"""A classifier trained with labels: the baseline with which methods without labels are compared.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385, trained as by Goyal et al.,
Accurate, Large Minibatch SGD, arXiv 1706.02677.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from pretrain.data.batches import ImageSource
from pretrain.data.labels import Labels, folder_labels
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.errors import PretrainError
from pretrain.method import Method, MethodInfo
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.parts.losses import embedding_std, full_precision, unit
from pretrain.parts.upload import upload
from pretrain.recipes import Recipe, SGDConfig, StepSchedule, small_recipe


@dataclass(frozen=True)
class SupervisedConfig:
    """A linear classifier on the mean of the backbone's map."""

    backbone: str = "resnet50"
    view_size: int = 224
    """Side of a view in pixels."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Range of a crop's share of the image area."""
    zero_init_residual: bool = True
    """Start residual blocks as identities."""

    def build(self, backbone: nn.Module | None = None) -> Supervised:
        """The freshly initialized method, on `backbone` if one is given."""
        return Supervised(self, backbone)


class Supervised(Method):
    """Softmax cross entropy with the class of each image.

    Of one crop x of an image with class c, with logits y = W mean(backbone(x)) + b:

        L = -log( exp(y_c) / sum over k of exp(y_k) ),

    averaged over images. The first folder of an image's path is its class. Batch norm takes its statistics from the
    whole batch.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="supervised",
        name="Supervised",
        unit="image",
        partner="its class",
        loss="cross entropy",
        second_network="none",
        negatives="other classes",
        paper="arXiv 1512.03385, arXiv 1706.02677",
        fidelity="paper",
        uncertain=(
            "colors are left as they are, where the first paper alters them a little",
            "batch norm takes the statistics of the batch of all processes, where the papers' has those of one GPU",
            "the classifier starts as PyTorch's, where the second paper draws it with a standard deviation of .01",
        ),
    )
    labels = "classes of images (their folders)"

    def __init__(self, config: SupervisedConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = ViewPlan((ViewSpec("crop", config.view_size, config.crop_scale),))
        self.backbone = synchronised(
            backbone_for(config.backbone, backbone, zero_init_residual=config.zero_init_residual)
        )
        self.known: Labels | None = None

    @override
    def prepare(self, source: ImageSource, folder: Path) -> None:
        """Read the labels, which determine the number of the classifier's outputs."""
        self.known = folder_labels(source)
        like = next(self.backbone.parameters())
        width, classes = width_of(self.backbone), len(self.known.classes)
        self.classifier = nn.Linear(width, classes, device=like.device, dtype=like.dtype)

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`; for the log `accuracy`, the share of images whose highest logit is that of their class, and `std`."""
        if self.known is None:
            raise PretrainError("training with labels needs them: call prepare(source, folder) before training")
        (view,) = views
        pooled = self.backbone(view.pixels).mean((2, 3))
        logits = full_precision(self.classifier(pooled))
        targets = upload(self.known.numbers[view.image_id], logits.device)
        self.embeddings = unit(pooled.detach())
        return {
            "loss": F.cross_entropy(logits, targets),
            "accuracy": (logits.detach().argmax(1) == targets).to(logits.dtype).mean(),
            "std": embedding_std(self.embeddings),
        }


METHODS = (Supervised,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="supervised-imagenet-90ep",
        method=SupervisedConfig(),
        epochs=90,
        batch_size=256,
        optimizer=SGDConfig(lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True, exclude_norm_bias=True),
        schedule=StepSchedule(milestones=(30, 60, 80)),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 1706.02677",
        expected="ImageNet 76.4 (paper: 5 runs, error 23.60 +- 0.12)",
    ),
    small_recipe(
        "supervised-mini",
        SupervisedConfig(backbone="resnet18", view_size=64, crop_scale=(0.2, 1.0), zero_init_residual=False),
        epochs=24,
        paper="arXiv 1512.03385",
    ),
)
