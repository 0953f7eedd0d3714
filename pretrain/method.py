"""What a method is: a module that wants views and returns named losses.

A method differs from another in five choices, which `MethodInfo` names. It holds no trainer: the loop in
`pretrain.run.train` (or five lines in a notebook) calls it, steps the optimiser and then calls `after_step`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Generic, Literal, TypeVar

from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.batches import ImageSource
from pretrain.data.views import View, ViewPlan
from pretrain.errors import PretrainError
from pretrain.parts.momentum import take_older_names


@dataclass(frozen=True)
class MethodInfo:
    """The line of `densebench methods`: the five choices, the source and how far it was checked."""

    id: str
    name: str
    unit: str
    partner: str
    loss: str
    second_network: Literal["none", "siamese", "momentum"]
    negatives: str
    paper: str
    fidelity: Literal["code", "paper", "reconstruction"]
    uncertain: tuple[str, ...] = ()
    gpu_memory: str = ""
    """GiB of a ResNet-50 with 256 images of 224 pixels on one GPU, in bf16 / fp32: computed, not measured."""


class Method(nn.Module):
    """Base of all methods.

    A subclass sets `info`, builds `backbone` (the network that is exported) and `plan`, and implements `forward`.
    Its constructor takes one frozen config dataclass and nothing else, so that a recipe is data.
    """

    info: ClassVar[MethodInfo]
    plan: ViewPlan
    backbone: nn.Module
    labels: str = "none"
    """What it is told of the images, for the card."""
    embeddings: Tensor | None = None
    """Of the last forward pass, those (N, C) whose effective rank the loop logs now and then; set where `std` is."""
    products: Mapping[str, Path] = MappingProxyType({})
    """What the stages before have computed, a file by the name of its stage; set before `prepare` is called, and before
    a stage computes with the method."""

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(take_older_names)  # type: ignore[no-untyped-call]

    def start_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin with a trained backbone: fill every network in here that is built like `backbone` with its `tensors`.

        So the copies of a momentum network, and a trained network whose momentum copy is exported, start alike; heads
        stay as they were initialised, which copies share with what they copy. A method that holds such a network for
        another purpose says here which to fill.

        Raises:
            PretrainError: the tensors are those of another network.
        """
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        filled = 0
        for module in self.modules():
            if type(module) is not type(self.backbone):
                continue
            if {name: tensor.shape for name, tensor in module.state_dict().items()} == shapes:
                module.load_state_dict(dict(tensors))
                filled += 1
        if not filled:
            raise PretrainError(f"the starting weights do not fill the backbone of {self.info.name}")

    def prepare(self, source: ImageSource, folder: Path) -> None:
        """Compute or open what the method needs to know of every image before the first step, e.g. masks.

        Files go to `folder`, the run's own, and are found there again when a run is resumed. With several processes
        the first calls it alone, the others when its files are there.
        """

    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """Named scalars for one batch: `loss` is differentiated, every other entry is detached, for the log.

        `views` follow `plan.specs`, all of the same N images in the same order. Queues and momentum weights are
        read but not moved here: that is `after_step`'s part, so that a step that is not taken leaves no trace.
        """
        raise NotImplementedError

    def before_update(self, step: int, total_steps: int) -> None:
        """Change gradients after the backward pass of step `step` (from 1), e.g. to freeze a layer for a while."""

    def after_step(self, step: int, total_steps: int) -> None:
        """Move momentum weights and queues. `step` counts finished optimiser steps, from 1 to `total_steps`."""


@dataclass(frozen=True)
class Maps:
    """A batch as a method of two networks sees it: maps (N, width, h, w), one a view or None where it makes none."""

    online: tuple[Tensor | None, ...]
    """By the trained backbone."""
    target: tuple[Tensor | None, ...]
    """By the momentum backbone, without gradient, in the order of the views' images."""
    keys: Tensor | None = None
    """Embeddings (N, C) of the target map, of a method that makes them before the images are back in their order."""


class MapMethod(Method):
    """A method whose loss follows from the maps of two networks, so that a loss of cells can be added to it.

    A subclass that overrides `forward` computes another loss than `image_loss`, to which nothing can be added.
    """

    def maps(self, views: Sequence[View], *, cells: bool = True) -> Maps:
        """The maps of the views. Without `cells`, target maps that `image_loss` does not need may be left out."""
        raise NotImplementedError

    def image_loss(self, maps: Maps) -> dict[str, Tensor]:
        """What `forward` returns, from the maps of its views."""
        raise NotImplementedError

    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """The loss and the log of the views."""
        return self.image_loss(self.maps(views, cells=False))

    def momentum_after(self, step: int, total_steps: int) -> float:
        """m of the update after step `step` (from 1)."""
        raise NotImplementedError


class EmbeddingMethod(Method):
    """A method that compares one embedding of each image with a target, so that parts of images can be compared too."""

    targets: Tensor | None = None
    """Of the last forward pass: what the first view of each image is compared with (N, C), without gradient."""

    def embed(self, pooled: Tensor) -> Tensor:
        """Unit embeddings (R, C) of pooled features (R, width), on the trained side."""
        raise NotImplementedError

    def compare(self, embedded: Tensor, targets: Tensor, rivals: Tensor) -> dict[str, Tensor]:
        """`loss` of embeddings (R, C) against their `targets` (R, C), and what the log tells of it.

        `rivals` (R, K, C) are further negatives of each, for a method that has negatives.
        """
        raise NotImplementedError


Base = TypeVar("Base", bound=Method)


class Addition(Method, Generic[Base]):
    """A method that adds a loss to another one, its `base`: backbone and views are the base's, and so is all that moves
    but not by the gradient. `forward` runs the base and adds to its `loss`.
    """

    def __init__(self, base: Base) -> None:
        super().__init__()
        self.backbone = base.backbone
        self.base: Base = base
        self.plan = base.plan

    @override
    def prepare(self, source: ImageSource, folder: Path) -> None:
        self.base.prepare(source, folder)

    @override
    def before_update(self, step: int, total_steps: int) -> None:
        self.base.before_update(step, total_steps)

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        self.base.after_step(step, total_steps)
