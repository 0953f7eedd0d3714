"""The base of all methods: a module that takes views and returns named losses.

Methods differ in five choices, which `MethodInfo` names. A method does not contain a training loop: the loop in
`pretrain.run.train` (or five lines in a notebook) calls it, steps the optimizer and then calls `after_step`.
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
    """Description of a method for `densebench methods`: the five choices, the source, and what was checked."""

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
    """GiB of GPU memory for a ResNet-50 with 256 images of 224 pixels on one GPU, in bf16 / fp32; not measured but
    computed."""


class Method(nn.Module):
    """Base of all methods.

    A subclass sets `info`, builds `backbone` (the network that is exported) and `plan`, and implements `forward`.
    Its constructor takes one frozen config dataclass and nothing else, so that a recipe is data.
    """

    info: ClassVar[MethodInfo]
    trains: ClassVar[bool] = True
    """Whether it trains a network; if not, its result is what its stages compute."""
    plan: ViewPlan
    backbone: nn.Module
    labels: str = "none"
    """Labels of the images that the method uses, for the card."""
    embeddings: Tensor | None = None
    """Embeddings (N, C) of the last forward pass, whose effective rank is logged regularly; set where `std` is."""
    products: Mapping[str, Path] = MappingProxyType({})
    """Files that earlier stages have computed, by the name of the stage; set before `prepare` is called, and before a
    stage computes with the method."""

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(take_older_names)  # type: ignore[no-untyped-call]

    def start_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Start from a trained backbone: fill every network of the method that is built like `backbone` with `tensors`.

        So a trained network and its momentum copy start with the same weights, whichever of them is exported. Heads
        keep their initial weights, which a copy shares with its original. A method that has such a network for another
        purpose overrides this to say which ones are filled.

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

        Files go to the run's `folder` and are found there again when the run is resumed. With several processes, the
        first one calls it alone, and the others call it when the files are there.
        """

    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """Named scalars for one batch: `loss` is differentiated, every other entry is detached, for the log.

        `views` follow `plan.specs`, all of the same N images in the same order. Queues and momentum weights are read
        but only updated in `after_step`, so that a step that is not taken changes nothing.
        """
        raise NotImplementedError

    def found(self, wholes: View) -> Tensor | None:
        """Label maps (N, h, w) of the regions that the method forms in whole images while it trains, for pictures.

        `wholes` are as the last of `plan.specs` says. None of methods that form no regions.
        """
        return None

    def before_update(self, step: int, total_steps: int) -> None:
        """Change gradients after the backward pass of step `step` (from 1), e.g. to freeze a layer for a while."""

    def after_step(self, step: int, total_steps: int) -> None:
        """Update momentum weights and queues. `step` counts finished optimizer steps, from 1 to `total_steps`."""


@dataclass(frozen=True)
class Maps:
    """A batch's maps (N, width, h, w) in a method of two networks: one per view, None for views without one."""

    online: tuple[Tensor | None, ...]
    """Maps of the trained backbone."""
    target: tuple[Tensor | None, ...]
    """Maps of the momentum backbone, without gradient, in the order of the views' images."""
    keys: Tensor | None = None
    """Embeddings (N, C) of the target map, in methods that compute them before undoing the shuffle of images."""


class MapMethod(Method):
    """A method whose loss follows from the maps of two networks, so that a loss of cells can be added to it.

    A subclass that overrides `forward` computes another loss than `image_loss`, to which nothing can be added.
    """

    def maps(self, views: Sequence[View], *, cells: bool = True) -> Maps:
        """The maps of the views. Without `cells`, target maps that `image_loss` does not need may be left out."""
        raise NotImplementedError

    def image_loss(self, maps: Maps) -> dict[str, Tensor]:
        """The result of `forward`, computed from the maps of its views."""
        raise NotImplementedError

    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """The loss and the log of the views."""
        return self.image_loss(self.maps(views, cells=False))

    def momentum_after(self, step: int, total_steps: int) -> float:
        """Momentum m of the update after step `step` (from 1)."""
        raise NotImplementedError


class EmbeddingMethod(Method):
    """A method that compares one embedding of each image with a target, so that parts of images can be compared too."""

    targets: Tensor | None = None
    """Targets (N, C) of the last forward pass, with which the first view of each image is compared; no gradient."""

    def embed(self, pooled: Tensor) -> Tensor:
        """Unit embeddings (R, C) of pooled features (R, width), on the trained side."""
        raise NotImplementedError

    def compare(self, embedded: Tensor, targets: Tensor, rivals: Tensor) -> dict[str, Tensor]:
        """`loss` of embeddings (R, C) and their `targets` (R, C), and scalars for the log.

        `rivals` (R, K, C) are further negatives of each, for a method that has negatives.
        """
        raise NotImplementedError


Base = TypeVar("Base", bound=Method)


class Addition(Method, Generic[Base]):
    """A method that adds a loss to another one, its `base`: backbone and views are the base's, and so is everything
    that is updated without a gradient. `forward` runs the base and adds to its `loss`.
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
