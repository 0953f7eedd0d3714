"""ORL: object-level representation learning from scenes, by boxes that correspond in images alike.

Xie et al., Unsupervised Object-Level Representation Learning from Scene Images, NeurIPS 2021, arXiv 2106.11952.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.augment import byol_colour
from pretrain.data.batches import ImageSource
from pretrain.data.proposals import overlaps
from pretrain.data.views import View, ViewSpec
from pretrain.discovery.correspondence import Box, Neighbors, Pairs, Proposals, as_box, listed, opened
from pretrain.errors import PretrainError
from pretrain.method import MethodInfo
from pretrain.methods.byol import BYOL, BYOLConfig, regression_loss
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import init_openselfsup, norm_head
from pretrain.recipes import CosineSchedule, Recipe, SGDConfig, small_recipe


@dataclass(frozen=True)
class ORLConfig(BYOLConfig):
    """ORL's last training as published; views of whole images, networks and momentum as BYOL's."""

    momentum: float = 0.99
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    objects: bool = True
    """Whether boxes are compared beside whole images; if not, this is the first training."""
    patch_size: int = 96
    """Side of a box's view in pixels."""
    shift: float = 0.5
    """Farthest that a box's center is moved for its second view, in widths and heights of the box."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the moved box's area, in areas of the box."""
    ratio: tuple[float, float] = (0.5, 2.0)
    """Range of the moved box's width / height."""
    overlap: float = 0.5
    """Intersection over union that the moved box must exceed with the box."""
    tries: int = 200
    """Moved boxes that are tried before the box itself is taken again."""

    @override
    def build(self, backbone: nn.Module | None = None) -> ORL:
        return ORL(self, backbone)


class ORL(BYOL):
    """Object-level representation learning, after an image-level training that found which boxes correspond.

    BYOL's loss between two views, each of the other's momentum embedding, is summed over three pairs of an image i:

        image    two views of image i
        intra    a box of image i, and the same box moved, scaled and stretched at random
        inter    a box of image i, and the one that it corresponds to in one of the images nearest to i

    with a predictor for each of the three; backbone and projector are shared. Boxes are seen at `patch_size` pixels.
    Six forward passes of either network have each their own statistics of batch norm. The stages before are the same
    method on whole images alone, `Proposals`, `Neighbors` and `Pairs`; the last training starts from scratch.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="orl",
        name="ORL",
        unit="image and box",
        partner="the other view, the moved box, the box alike in a near image",
        loss="squared distance of unit vectors",
        second_network="momentum",
        negatives="none",
        paper="arXiv 2106.11952",
        fidelity="code",
        gpu_memory="30 to 34 / 56 to 62",
        uncertain=(
            "the blur is a Gaussian, where the code calls Pillow, which approximates one by box filters",
            "the cosine of the learning rate begins after the warm-up, where the code's begins with it",
            "the order of selective search's boxes, random in the code, is drawn for each image by its number",
            "the published scores are of COCO or of COCO with its unlabeled images; some tables do not say",
        ),
    )

    def __init__(self, config: ORLConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config, backbone)
        self.config: ORLConfig = config
        hidden, dim = config.hidden, config.dim
        self.box_predictors = nn.ModuleDict()
        if config.objects:
            specs = []
            for pair in ("intra", "inter"):
                head = norm_head(dim, hidden, dim, bias=True, last_bias=config.last_bias)
                self.box_predictors[pair] = synchronised(head)
                for side, blur, solarize in zip((1, 2), config.blur, config.solarize, strict=True):
                    specs.append(
                        ViewSpec(
                            name=f"{pair} {side}",
                            size=config.patch_size,
                            scale=(1.0, 1.0),  # never drawn: `Places` says where
                            interpolation=config.interpolation,
                            colour=byol_colour(config.blur_sigma, blur=blur, solarize=solarize),
                        )
                    )
            self.plan = replace(self.plan, specs=(*self.plan.specs, *specs))
        heads = nn.ModuleList((self.projector, self.predictor, self.box_predictors))
        init_openselfsup(self.backbone if backbone is None else None, heads)
        self.momentum.reset()

    @override
    def prepare(self, source: ImageSource, folder: Path) -> None:
        """Take the places of boxes from what the stages before have left."""
        if not self.config.objects:
            return
        try:
            files = [self.products[name] for name in ("proposals", "neighbors", "pairs")]
        except KeyError as error:
            raise PretrainError(
                f"ORL trains with the boxes of its stages, and {error} is not there: run a recipe that lists the stages"
            ) from error
        self.plan = replace(self.plan, places=ObjectPlaces(self.config, *files))

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """Losses as BYOL's for whole images, and for the log the parts `image`, `intra` and `inter` of `loss`."""
        out = super().forward(views[:2])
        out["image"] = out["loss"].detach()
        for place, (pair, predictor) in enumerate(self.box_predictors.items(), 1):
            x_1, x_2 = (view.pixels for view in views[2 * place : 2 * place + 2])
            p_1, p_2 = (predictor(self.embed(x)) for x in (x_1, x_2))
            with torch.no_grad():
                t_1, t_2 = (self.momentum.projector(self.momentum.backbone(x).mean((2, 3))) for x in (x_1, x_2))
            loss = regression_loss(p_1, t_2) + regression_loss(p_2, t_1)
            out["loss"], out[pair] = out["loss"] + loss, loss.detach()
        return out

    def embed(self, x: Tensor) -> Tensor:
        """Projections (N, dim) of images (N, 3, S, S)."""
        projected: Tensor = self.projector(self.backbone(x).mean((2, 3)))
        return projected


@dataclass(frozen=True)
class ObjectPlaces:
    """Places at which ORL's views of boxes are cut: `pretrain.data.views.Places`."""

    config: ORLConfig
    proposals: Path
    neighbors: Path
    pairs: Path

    def draw(self, rng: np.random.Generator, image_id: int, width: int, height: int) -> Mapping[str, tuple[int, Box]]:
        """Draw a box, a neighbor and one of its pairs, each uniformly, as published."""
        boxes = listed(opened(self.proposals)[image_id])
        box = boxes[rng.integers(len(boxes))]
        moved = moved_box(rng, box, width, height, self.config)
        rank = rng.integers(opened(self.neighbors).shape[1])
        pairs = listed(opened(self.pairs)[image_id, rank])
        pair = pairs[rng.integers(len(pairs))]
        return {
            "intra 1": (image_id, as_box(box)),
            "intra 2": (image_id, as_box(moved)),
            "inter 1": (image_id, as_box(pair[:4])),
            "inter 2": (int(opened(self.neighbors)[image_id, rank]), as_box(pair[4:])),
        }


def moved_box(
    rng: np.random.Generator, box: npt.NDArray[np.int64], width: int, height: int, config: ORLConfig
) -> npt.NDArray[np.int64]:
    """A box at random within a `width` x `height` image that overlaps `box` by more than `config.overlap`."""
    center, sides = box[:2] + 0.5 * box[2:], box[2:]
    low, high = math.log(config.ratio[0]), math.log(config.ratio[1])
    for _ in range(config.tries):
        area = sides.prod() * rng.uniform(*config.scale)
        ratio = math.exp(rng.uniform(low, high))
        to = center + rng.uniform(-config.shift, config.shift, 2) * sides
        new = np.rint([math.sqrt(area * ratio), math.sqrt(area / ratio)]).astype(np.int64)
        corner = np.rint(to - 0.5 * new).astype(np.int64)
        moved = np.concatenate([corner, new])
        if (
            corner.min() >= 0
            and (corner + new <= (width, height)).all()
            and overlaps(moved[None], box) > config.overlap
        ):
            return moved
    return box


METHODS = (ORL,)

SGD = SGDConfig(lr=0.4, momentum=0.9, weight_decay=1e-4)
COSINE = CosineSchedule(per="step", warmup_epochs=4, warmup_start=1e-4)
MINI = ORLConfig(
    backbone="resnet18",
    hidden=512,
    dim=128,
    momentum=0.98,
    view_size=64,
    patch_size=32,
    crop_scale=(0.2, 1.0),
    blur_sigma=(0.1, 1.0),
)


def _staged(
    last: Recipe, images: ORLConfig, proposals: Proposals, neighbors: Neighbors, pairs: Pairs, *, first_epochs: int
) -> Recipe:
    """`last` after the training on whole `images`, which is like it but for its epochs, and what is found with it."""
    first = replace(last, name="image-level", method=images, epochs=first_epochs, expected="", cost="")
    return replace(last, stages=(proposals, first, neighbors, pairs))


RECIPES: tuple[Recipe, ...] = (
    _staged(
        Recipe(
            name="orl-coco-800ep",
            method=ORLConfig(),
            epochs=800,
            batch_size=512,
            optimizer=SGD,
            schedule=COSINE,
            data="COCO train2017, 118 k images",
            paper="arXiv 2106.11952; code Jiahao000/ORL",
            expected=(
                "VOC07 low-shot SVM mAP 42.3 (1 image per class) to 84.6 (96 images), "
                "VOC12 mIoU 70.9, ADE20K mIoU 36.7 (other papers' tables)"
            ),
            cost=(
                "stages at COCO's size, computed: proposals 3.8 s per image and core, 125 core hours, 95 MB; neighbors "
                "118 k images forward, 5 MB; pairs at most 11.8 M boxes forward (1e17 operations), 190 MB, and at most "
                "97 GB of disk until it is done"
            ),
        ),
        ORLConfig(objects=False),
        Proposals(),
        Neighbors(),
        Pairs(),
        first_epochs=800,
    ),
    _staged(
        small_recipe(
            "orl-mini",
            MINI,
            epochs=7,
            batch_size=32,
            warmup_epochs=1,
            optimizer=SGDConfig(lr=0.12, momentum=0.9, weight_decay=1e-4),
            paper="arXiv 2106.11952; boxes by scikit-image",
            expected="Cityscapes mIoU by linear probe 30.4 and by nearest cells 32.3, of a random network 28.0 and "
            "28.1; VOC 5.4 and 4.9, of a random network 5.3 and 4.9 (fp32, 3,000 photographs, 220 and 50 images for "
            "evaluation)",
        ),
        replace(MINI, objects=False),
        Proposals(search="skimage", min_side=24, limit=20),
        Neighbors(resize=74, size=64),
        Pairs(size=64),
        first_epochs=8,
    ),
)
