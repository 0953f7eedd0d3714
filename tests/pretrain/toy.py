"""A method small enough to be trained many times in a test, and images to train it on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.method import Method, MethodInfo
from pretrain.nets.architectures import build_backbone
from pretrain.parts.distributed import gather
from pretrain.recipes import CosineSchedule, Recipe, SGDConfig


@dataclass(frozen=True)
class ToyConfig:
    backbone: str = "resnet18"
    real: bool = False
    """Build that backbone, not a single layer in its place."""
    norm: bool = True
    dropout: float = 0.2
    size: int = 16
    scale: tuple[float, float] = (0.2, 1.0)
    limit: int | None = None
    poison_at: int = 0
    """The step whose loss is not a number; 0 for none."""

    def build(self) -> Toy:
        return Toy(self)


class Toy(Method):
    """Two crops of an image should look alike to a small network with dropout; remembers its last outputs."""

    info = MethodInfo("toy", "Toy", "image", "other view", "MSE", "none", "none", "none", "reconstruction")

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        spec = ViewSpec("crop", config.size, config.scale)
        self.plan = ViewPlan((spec, spec))
        norm = nn.BatchNorm2d(4) if config.norm else nn.Identity()
        small = nn.Sequential(nn.Conv2d(3, 4, 3, 2), norm, nn.ReLU())
        self.backbone = build_backbone(config.backbone) if config.real else small
        self.head = nn.Linear(self.backbone.width if config.real else 4, 3)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("memory", torch.randn(3))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.memory: Tensor
        self.steps: Tensor
        self.seen_dtype: torch.dtype | None = None

    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        first, second = (self.head(self.dropout(self.backbone(v.pixels).mean((2, 3)))) for v in views)
        self.seen_dtype = first.dtype
        self._seen = self.embeddings = first.detach().float()
        loss = F.mse_loss(first.float(), second.float().detach() + self.memory)
        if self.config.poison_at and int(self.steps) + 1 == self.config.poison_at:
            loss = loss * float("nan")
        return {"loss": loss, "spread": first.detach().float().std()}

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        self.steps.fill_(step)
        self.memory.lerp_(gather(self._seen).mean(0), 0.1)


def processes_context() -> ForkServerContext:
    """Starts processes that have PyTorch imported already; none of its threads was running when they were forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pretrain.run.train"])
    return context


def toy_recipe(**changes: object) -> Recipe:
    settings: dict[str, object] = {
        "name": "toy",
        "method": ToyConfig(),
        "epochs": 3,
        "batch_size": 4,
        "optimizer": SGDConfig(lr=0.05),
        "schedule": CosineSchedule(per="epoch"),
    }
    return Recipe(**(settings | changes))  # type: ignore[arg-type]


def write_images(folder: Path, count: int = 18, *, classes: int = 0) -> Path:
    """`count` small noise images; every second one grey. With `classes`, each lies in the folder of its class."""
    folder.mkdir(parents=True)
    for number in range(classes):
        (folder / f"class{number}").mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        shape = (24, 32, 3) if index % 2 else (32, 24)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(
            folder / (f"class{index % classes}" if classes else "") / f"{index:03}.png"
        )
    return folder
