"""SimCLR: each view of a large batch must find the other view of its image among all views.

Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020, arXiv 2002.05709.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.augment import simclr_colour
from pretrain.data.tensorflow_color import simclr_code_color
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.method import Method, MethodInfo
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.parts.distributed import gather_with_grad, rank
from pretrain.parts.losses import InfoNCE, embedding_std, full_precision, unit
from pretrain.recipes import CosineSchedule, LARSConfig, Recipe, SGDConfig, small_recipe


@dataclass(frozen=True)
class SimCLRConfig:
    """SimCLR as published: a head of two layers as in its first version, inputs as its code has them by default."""

    backbone: str = "resnet50"
    hidden: int = 2048
    """Width of the head's hidden layer."""
    dim: int = 128
    """Width C of an embedding."""
    temperature: float = 0.1
    jitter: float = 1.0
    """Strength s of the color jitter (0.8 s, 0.8 s, 0.8 s, 0.2 s)."""
    view_size: int = 224
    """Side of a view in pixels."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Range of a crop's share of the image area."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""
    zero_init_residual: bool = True
    """Start residual blocks as identities."""
    head_std: float | None = 0.01
    """Standard deviation of the head's initial weights; None draws them as PyTorch does. As batch norm follows, small
    weights change direction a lot at each step of SGD, while LARS changes them in proportion to their length."""
    # Not marked as ADDED: the loss of the code's scale and batch norm over both views came at the same time, so every
    # recipe of SimCLR computes something else than before.
    inputs: Literal["torchvision", "simclr"] = "simclr"
    """Arithmetic of crops, resizing, colors and blur: that of SimCLR's code, which is always bicubic, or
    torchvision's."""

    def build(self, backbone: nn.Module | None = None) -> SimCLR:
        """The freshly initialized method, on `backbone` if one is given."""
        return SimCLR(self, backbone)


def simclr_views(config: SimCLRConfig) -> ViewPlan:
    """Two views drawn alike. Pixels stay in [0, 1]: they are not normalized."""
    of_code = config.inputs == "simclr"
    colour = (simclr_code_color if of_code else simclr_colour)(config.blur_sigma, config.jitter)
    return ViewPlan(
        tuple(
            ViewSpec(
                name=name,
                size=config.view_size,
                scale=config.crop_scale,
                interpolation="bicubic" if of_code else config.interpolation,
                colour=colour,
                rules=config.inputs,
            )
            for name in ("first", "second")
        ),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


class SimCLR(Method):
    """Contrast within the batch.

    z = head(mean(backbone(x))), scaled to length 1, for both views of the B images of the batch over all processes. For
    each of the 2 B embeddings, with j its other view,

        L = 1/B sum over i of -log( exp(z_i.z_j / T) / sum over k != i of exp(z_i.z_k / T) ),

    which is the code's: the means of both directions are added. It is twice the paper's mean, so that what LARS does
    not adapt, the scales and shifts of batch norm, moves twice as far. Gradients reach all embeddings, positives and
    negatives alike, whichever process made them. Batch norm takes its statistics from both views of the whole batch:
    with those of a part, images would be told apart by their part.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="simclr",
        name="SimCLR",
        unit="image",
        partner="the other view",
        loss="InfoNCE",
        second_network="siamese",
        negatives="batch",
        paper="arXiv 2002.05709",
        fidelity="code",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            "inputs are those of the code's default, its second version; the first added to the brightness",
            "each blurred view has a sigma of its own, in the code all images of a device share one per view",
            "crops are rounded and clamped to 8 bits before the color operations, where the code keeps floats",
            "weight decay is the paper's 1e-6, where the command in the code's README has 1e-4",
            "convolutions start as PyTorch's, where the code scales by fan-in",
            "strided convolutions and pooling pad evenly, where the code pads as TensorFlow does",
        ),
    )

    def __init__(self, config: SimCLRConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = simclr_views(config)
        self.backbone = synchronised(
            backbone_for(config.backbone, backbone, zero_init_residual=config.zero_init_residual)
        )
        self.head = synchronised(norm_head(width_of(self.backbone), config.hidden, config.dim, last_norm="scale"))
        for layer in self.head:
            if isinstance(layer, nn.Linear) and config.head_std is not None:
                nn.init.normal_(layer.weight, std=config.head_std)

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, and for the log `positive`, `negative`, `accuracy` (see `InfoNCE`) and `std` of the embeddings."""
        x = torch.cat([view.pixels for view in views])
        z_1, z_2 = unit(self.head(self.backbone(x).mean((2, 3)))).chunk(2)
        nce = nt_xent(z_1, z_2, self.config.temperature)
        self.embeddings = z_1.detach()
        return {**nce._asdict(), "std": embedding_std(self.embeddings)}


def nt_xent(z_1: Tensor, z_2: Tensor, temperature: float) -> InfoNCE:
    """The normalized temperature-scaled cross entropy of unit vectors z_1, z_2 (n, C): two views of n images.

    The batch is that of all processes. The loss is the sum of this process's means over the n anchors of each view;
    with equal n, the mean over processes is the code's loss, and the gradients of weights averaged over processes are
    its gradients.
    """
    n = len(z_1)
    with torch.autocast(z_1.device.type, enabled=False):
        anchors = torch.cat([full_precision(z_1), full_precision(z_2)])
        others = torch.cat([gather_with_grad(full_precision(z_1)), gather_with_grad(full_precision(z_2))])
        batch = len(others) // 2
        own = rank() * n + torch.arange(n, device=z_1.device)
        itself, partner = torch.cat([own, batch + own]), torch.cat([batch + own, own])
        similarity = anchors @ others.T
        logits = (similarity / temperature).scatter(1, itself[:, None], float("-inf"))
        loss = 2 * nn.functional.cross_entropy(logits, partner)
    with torch.no_grad():
        positive = similarity.gather(1, partner[:, None])
        same = positive.sum() + similarity.gather(1, itself[:, None]).sum()
        negative = (similarity.sum() - same) / (2 * n * max(1, 2 * batch - 2))
        accuracy = (logits.argmax(1) == partner).to(loss.dtype).mean()
    return InfoNCE(loss, positive.mean().detach(), negative, accuracy)


METHODS = (SimCLR,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="simclr-imagenet-100ep",
        method=SimCLRConfig(),
        epochs=100,
        batch_size=4096,
        optimizer=LARSConfig(lr=4.8, momentum=0.9, weight_decay=1e-6, variant="simclr"),
        schedule=CosineSchedule(per="step", warmup_epochs=10),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2002.05709; code google-research/simclr",
        expected="ImageNet linear 64.4 (VISSL's reproduction)",
        cost="128 TPU v3: 1.5 hours (paper)",
    ),
    Recipe(
        name="simclr-imagenet-1000ep",
        method=SimCLRConfig(),
        epochs=1000,
        batch_size=4096,
        optimizer=LARSConfig(lr=4.8, momentum=0.9, weight_decay=1e-6, variant="simclr"),
        schedule=CosineSchedule(per="step", warmup_epochs=10),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2002.05709; code google-research/simclr",
        expected="ImageNet linear 69.1 (code's README)",
        cost="128 TPU v3: 15 hours (ten times the 100 epochs)",
    ),
    small_recipe(
        "simclr-mini",
        SimCLRConfig(
            backbone="resnet18",
            hidden=512,
            temperature=0.2,
            jitter=0.5,
            view_size=64,
            crop_scale=(0.2, 1.0),
            blur_sigma=(0.1, 1.0),
            zero_init_residual=False,
            head_std=None,
            inputs="torchvision",
        ),
        epochs=12,
        warmup_epochs=2,
        optimizer=SGDConfig(lr=0.015, momentum=0.9, weight_decay=1e-3),
        paper="arXiv 2002.05709; for its small batches trained by SGD",
        images_per_second=83,
    ),
)
