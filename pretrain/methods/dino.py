"""DINO: self-distillation without labels.

Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021, arXiv 2104.14294.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from pretrain.data.augment import byol_colour, byol_colours
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.method import Method, MethodInfo
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.vit import Style, VisionTransformer
from pretrain.parts.distributed import gather
from pretrain.parts.losses import embedding_std, full_precision, unit
from pretrain.parts.momentum import Momentum, momentum_at
from pretrain.parts.multicrop import by_size
from pretrain.recipes import AdamWConfig, CosineSchedule, Recipe, SGDConfig, small_recipe
from pretrain.settings import ADDED


@dataclass(frozen=True)
class DINOConfig:
    """DINO as its code trains it by default, with two global and eight local crops."""

    backbone: str = "vit_small_patch16"
    hidden: int = 2048
    """Width of the head's two hidden layers."""
    bottleneck: int = 256
    """Width of the head before the last layer."""
    outputs: int = 65536
    """Number K of outputs (prototypes)."""
    head_norm: bool = False
    """Whether the head has batch norm."""
    norm_last_layer: bool = True
    """Keep the length of the last layer's weights at 1; without, each output learns its own, which is better for a
    small transformer and unstable for a large one."""
    freeze_last_layer: int = 1251
    """Steps at the start during which the last layer stays as it is: one epoch of ImageNet at batch 1,024."""
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    teacher_start: float = 0.04
    """The teacher's temperature at the first step, from which it moves linearly to `teacher_temperature`."""
    teacher_warmup: int = 0
    """Number of steps in which the teacher's temperature moves."""
    centre_momentum: float = 0.9
    momentum: float = 0.996
    """The teacher's momentum at the first step; it moves to 1 along a cosine. Small batches need a higher one."""
    view_size: int = 224
    crop_scale: tuple[float, float] = (0.4, 1.0)
    """Range of a global crop's share of the image area."""
    local_crops: int = 8
    local_size: int = 96
    local_scale: tuple[float, float] = (0.05, 0.4)
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""
    vit: Style = field(default="timm", metadata=ADDED)
    """The code that a ViT follows for its initial class token and its positions at other sizes than 224 pixels
    (`follow_dino`)."""

    def build(self, backbone: nn.Module | None = None) -> DINO:
        """The freshly initialized method, on `backbone` if one is given."""
        return DINO(self, backbone)


def dino_views(config: DINOConfig) -> ViewPlan:
    """Two global crops, one always and one seldom blurred, and the local crops."""
    colours = byol_colours(config.blur_sigma)
    crop = partial(ViewSpec, size=config.view_size, scale=config.crop_scale, interpolation="bicubic")
    first = crop("global 1", colour=colours[0])
    second = crop("global 2", colour=colours[1])
    blurred = byol_colour(config.blur_sigma, blur=0.5)
    local = crop("local", size=config.local_size, scale=config.local_scale, colour=blurred)
    return ViewPlan((first, second) + (local,) * config.local_crops)


class DINO(Method):
    """A student learns to predict from all views the outputs of a teacher, its own momentum copy, for large views.

    g = head(backbone(x)) has K outputs. The teacher sees the two global views u, the student all V views v:

        P_t(x_u) = softmax((g_t(x_u) - c) / T_t),   P_s(x_v) = softmax(g_s(x_v) / T_s),
        L = mean over u, v with v != u, and images, of - sum_k P_t(x_u)_k log P_s(x_v)_k.

    The center c, a moving average of the teacher's outputs, keeps one output from winning everywhere; the teacher's low
    temperature keeps the outputs from becoming equal. The exported backbone is the teacher's, as in the paper.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="dino",
        name="DINO",
        unit="image",
        partner="the other views",
        loss="cross-entropy with a centred, sharpened teacher",
        second_network="momentum",
        negatives="none",
        paper="arXiv 2104.14294",
        fidelity="code",
        uncertain=(
            "the student drops no layers at random, where the code trains ViTs with stochastic depth up to 0.1",
            "the teacher's temperature warms up step by step, in the code epoch by epoch",
            "recipes compute in fp32, where the code trains in mixed precision (float16)",
            "the blur is a Gaussian, where the code calls Pillow, which approximates one by box filters",
        ),
    )

    def __init__(self, config: DINOConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = dino_views(config)
        self.student_backbone = synchronised(backbone_for(config.backbone, backbone))
        if config.vit == "dino" and isinstance(self.student_backbone, VisionTransformer):
            self.student_backbone.follow_dino(keep_weights=backbone is not None)
        self.student_head = synchronised(DINOHead(width_of(self.student_backbone), config))
        self.teacher = Momentum(backbone=self.student_backbone, head=self.student_head)
        self.backbone = self.teacher.backbone
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(config.outputs))
        self.steps = 0
        """Number of finished steps."""
        self._outputs_mean: Tensor | None = None

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, and for the log: `accuracy`, the share of global views whose largest output is the teacher's for the
        other; `entropy` of the teacher's answers in nats (log K: uniform) and its share `kl` left to learn of the loss;
        `usage`, how many outputs the teacher uses (perplexity of its mean answer, as a share of K); `positive` and
        `negative`, mean cosines of the student's bottleneck for views of one image and of two; `std` of the bottleneck.
        """
        x = [view.pixels for view in views]
        n, V = len(x[0]), len(x)  # noqa: N806 - the paper's symbol
        z_s = self.student_head.embed(by_size(partial(embed, self.student_backbone), x))
        g_s = self.student_head.outputs(z_s)
        with torch.no_grad():
            g_t = self.teacher.head(by_size(partial(embed, self.backbone), x[:2]))
        with torch.autocast(g_s.device.type, enabled=False):
            log_s = F.log_softmax(g_s / self.config.student_temperature, dim=1).view(V, n, -1)
            p_t = F.softmax((g_t - self.centre) / self.teacher_temperature(), dim=1).view(2, n, -1)
            all_views = log_s.sum(0)
            first, second = (-(p_t[u] * (all_views - log_s[u])).sum(1).mean() for u in (0, 1))
            loss = (first + second) / (2 * (V - 1))
            z = z_s.detach().view(V, n, -1)
            negative = z[0].mean(0) @ z[1].mean(0)
        self._outputs_mean = g_t.mean(0)
        entropy, mean = torch.special.entr(p_t).sum(2).mean(), p_t.mean((0, 1))
        self.embeddings = z[0]
        return {
            "loss": loss,
            "positive": (z[0] * z[1]).sum(1).mean(),
            "negative": negative,
            "accuracy": (log_s[:2].argmax(2) == p_t.flip(0).argmax(2)).to(z.dtype).mean(),
            "entropy": entropy,
            "kl": loss.detach() - entropy,
            "usage": torch.special.entr(mean).sum().exp() / len(mean),
            "std": embedding_std(self.embeddings),
        }

    def teacher_temperature(self) -> float:
        """The teacher's temperature T_t of the coming step."""
        start, end, warmup = self.config.teacher_start, self.config.teacher_temperature, self.config.teacher_warmup
        return end if self.steps >= warmup else start + (end - start) * self.steps / warmup

    @override
    def before_update(self, step: int, total_steps: int) -> None:
        """Freeze the last layer at the start: without gradients the optimizer applies no decay or momentum either."""
        if step <= self.config.freeze_last_layer:
            for parameter in self.student_head.last.parameters():
                parameter.grad = None

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        """Update the teacher, then the center by the outputs of all processes in this step."""
        m = momentum_at(step, total_steps, self.config.momentum, "cosine")
        self.teacher.update(m)
        if self._outputs_mean is not None:
            mean = gather(self._outputs_mean[None]).mean(0)
            self.centre.lerp_(mean.to(self.centre.dtype), 1 - self.config.centre_momentum)
            self._outputs_mean = None
        self.steps = step

    @override
    def get_extra_state(self) -> Tensor:
        """Finished steps, on which the teacher's temperature depends, for the state dict."""
        return torch.tensor(self.steps)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)


def embed(backbone: nn.Module, x: Tensor) -> Tensor:
    """Images (N, 3, S, S) -> input of the head (N, width): a ViT's class token, or a ResNet's pooled map."""
    if isinstance(backbone, VisionTransformer):
        return backbone.tokens(x)[:, 0]
    features: Tensor = backbone(x).mean((2, 3))
    return features


class DINOHead(nn.Module):
    """Three layers with GELU, scaling to length 1, then K outputs: cosines with weights of length 1."""

    def __init__(self, width: int, config: DINOConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide in (width, config.hidden):
            layers.append(nn.Linear(wide, config.hidden))
            if config.head_norm:
                layers.append(nn.BatchNorm1d(config.hidden))
            layers.append(nn.GELU())
        self.mlp = nn.Sequential(*layers, nn.Linear(config.hidden, config.bottleneck))
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.last = NormalisedLinear(config.bottleneck, config.outputs, learn_length=not config.norm_last_layer)

    def embed(self, x: Tensor) -> Tensor:
        """Features (N, width) -> unit vectors (N, bottleneck)."""
        return unit(self.mlp(x))

    def outputs(self, z: Tensor) -> Tensor:
        """Unit vectors (N, bottleneck) -> (N, K), in full precision."""
        return self.last(z)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, width) -> (N, K)."""
        return self.outputs(self.embed(x))


class NormalisedLinear(nn.Module):
    """y = g * (x . w / |w|) for each output, without bias (weight normalization); g is 1, or learned from 1 on."""

    def __init__(self, inputs: int, outputs: int, *, learn_length: bool) -> None:
        super().__init__()
        self.weight = nn.Linear(inputs, outputs, bias=False).weight
        # A column, as in `weight_norm`: so weight decay applies to it as in the code; vectors are not decayed.
        self.length = nn.Parameter(torch.ones(outputs, 1)) if learn_length else None

    def forward(self, x: Tensor) -> Tensor:
        """Rows (N, inputs) -> (N, outputs), in full precision also under autocast."""
        with torch.autocast(x.device.type, enabled=False):
            y = F.linear(full_precision(x), unit(self.weight))
            return y if self.length is None else y * self.length[:, 0]


METHODS = (DINO,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="dino-vit-small-imagenet-100ep",
        method=DINOConfig(freeze_last_layer=2502, vit="dino"),
        epochs=100,
        batch_size=512,
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.04, final_weight_decay=0.4, clip_norm=3.0, clip_each=True),
        schedule=CosineSchedule(per="step", warmup_epochs=10, final=1e-3, warmup_full=True),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2104.14294; code facebookresearch/dino, its defaults",
        expected="ImageNet kNN 69.3, linear 74.0 (code's README)",
        cost="8 GPUs with 64 images each: 1.75 days (code's README)",
    ),
    Recipe(
        name="dino-resnet50-imagenet-100ep",
        method=DINOConfig(
            backbone="resnet50", crop_scale=(0.14, 1.0), local_scale=(0.05, 0.14), freeze_last_layer=2502
        ),
        epochs=100,
        batch_size=512,
        optimizer=SGDConfig(
            lr=0.06, momentum=0.9, weight_decay=1e-4, exclude_norm_bias=True, clip_norm=3.0, clip_each=True
        ),
        schedule=CosineSchedule(per="step", warmup_epochs=10, final=1e-6 / 0.06, warmup_full=True),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2104.14294; code facebookresearch/dino, the ResNet-50 command of its README",
        expected="not published for this command; 800 epochs with LARS: ImageNet kNN 67.5, linear 75.3 (code's README)",
        cost="8 GPUs with 64 images each (code)",
    ),
    Recipe(
        name="dino-vit-tiny-64px",
        method=DINOConfig(
            backbone="vit_tiny_patch8_64",
            hidden=512,
            bottleneck=128,
            outputs=1024,
            freeze_last_layer=46,
            momentum=0.99,
            view_size=64,
            local_crops=4,
            local_size=32,
            blur_sigma=(0.1, 1.0),
        ),
        epochs=18,
        batch_size=64,
        optimizer=AdamWConfig(lr=5e-4, weight_decay=0.04, final_weight_decay=0.4, clip_norm=3.0, clip_each=True),
        schedule=CosineSchedule(per="step", warmup_epochs=2, final=1e-3),
        data="a few thousand small images",
        paper="reduced from arXiv 2104.14294, for a transformer: maskdistill-mini finds masks with it",
    ),
    small_recipe(
        "dino-mini",
        DINOConfig(
            backbone="resnet18",
            hidden=512,
            bottleneck=128,
            outputs=256,
            head_norm=True,
            freeze_last_layer=46,
            # At the paper's 0.04 the teacher's outputs become uniform for these few, similar images.
            teacher_temperature=0.015,
            teacher_start=0.015,
            momentum=0.99,
            view_size=64,
            crop_scale=(0.25, 1.0),
            local_crops=4,
            local_size=32,
            local_scale=(0.05, 0.25),
            blur_sigma=(0.1, 1.0),
        ),
        epochs=18,
        optimizer=SGDConfig(lr=0.05, momentum=0.9, weight_decay=5e-4),
        paper="arXiv 2104.14294",
        images_per_second=45,
    ),
)
