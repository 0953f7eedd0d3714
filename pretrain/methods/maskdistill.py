"""MaskDistill: objects from a transformer's attention, grouped, as labels for segmenters.

Van Gansbeke et al., Discovering Object Masks with Transformers for Unsupervised Semantic Segmentation, 2022, arXiv
2206.06363.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.discovery.attention import ObjectLabels, ObjectMasks
from pretrain.errors import PretrainError
from pretrain.method import Method, MethodInfo
from pretrain.nets.architectures import backbone_for
from pretrain.nets.vit import Style, VisionTransformer
from pretrain.recipes import CosineSchedule, Recipe, SGDConfig


@dataclass(frozen=True)
class MaskDistillConfig:
    """The transformer whose attention is used; how, is said by the stages."""

    backbone: str = "vit_small_patch16"
    vit: Style = "dino"
    """The code that the ViT follows for its positions at other sizes than its own (`follow_dino`)."""

    def build(self, backbone: nn.Module | None = None) -> MaskDistill:
        """The method, on `backbone` if one is given."""
        return MaskDistill(self, backbone)


class MaskDistill(Method):
    """Object masks by a trained transformer, which is not trained further: its result are the tables of its stages.

    `ObjectMasks` finds one object in each image by the attention of the last block, `ObjectLabels` clusters what the
    network sees in the boxes around them, and gives the pixels of each object the number of its cluster. Segmenters
    learn from these labels: they are trained and scored by protocols of `transfer_configs`, whose names have
    `maskdistill` in them, which take the table of the stage `labels`.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="maskdistill",
        name="MaskDistill",
        unit="object, by a trained transformer's attention",
        partner="objects of other images in the same cluster",
        loss="none: its labels train segmenters",
        second_network="none",
        negatives="none",
        paper="arXiv 2206.06363",
        fidelity="code",
        uncertain=(
            "segmenters learn from the objects themselves or, as in the code, from confident predictions of a Mask "
            "R-CNN that learned from them first (protocol mini_voc_maskdistill_mrcnn); its settings are not published",
            "objects are clustered by the network that found them; the code finds them with a ViT-S/16 and clusters "
            "them with a ViT-S/8",
            "k-means sees all objects at once and starts by k-means++, where the code takes mini-batches of 1,000",
            "clusters are fitted to the images of the run; in the code with those of VOC 2007, which may be added",
            "clusters have no names: protocols name them when they are scored, the code by the boxes of training "
            "images",
            "masks are kept as cells; the code turns them into polygons with a tolerance of 2 pixels",
            "of patches with equal attention the earlier one counts as more attended; in the code this is open",
            "images of more than three times their shorter side are resized by their longer side",
        ),
    )
    trains: ClassVar[bool] = False

    def __init__(self, config: MaskDistillConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone_for(config.backbone, backbone)
        if isinstance(self.backbone, VisionTransformer) and config.vit == "dino":
            self.backbone.follow_dino(keep_weights=True)
        self.plan = ViewPlan((ViewSpec("whole", 224, scale=(1.0, 1.0), flip=0.0, trained=False),))

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """There is nothing to train.

        Raises:
            PretrainError: always.
        """
        raise PretrainError(f"{self.info.name} trains nothing: leave its epochs at 0")


METHODS = (MaskDistill,)

UNUSED = SGDConfig(lr=0.1, momentum=0.0, weight_decay=0.0), CosineSchedule(per="step")
"""What a recipe has to state for its training, of which there is none."""

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="maskdistill-voc",
        method=MaskDistillConfig(),
        epochs=0,
        batch_size=1,
        optimizer=UNUSED[0],
        schedule=UNUSED[1],
        stages=(ObjectMasks(), ObjectLabels()),
        needs_init=True,
        data="PASCAL VOC 2012 trainaug, 10,582 images",
        paper="arXiv 2206.06363; code wvangansbeke/MaskDistill; weights: DINO's ViT-S/16",
        expected="VOC 2012 val after distillation: mIoU 48.5, linear with CRF 62.8 (code's README)",
        cost="two passes over the images of 640 pixels and of the objects; tables of 14 kB per image: 150 MB each",
    ),
    Recipe(
        name="maskdistill-coco",
        method=MaskDistillConfig(),
        epochs=0,
        batch_size=1,
        optimizer=UNUSED[0],
        schedule=UNUSED[1],
        stages=(ObjectMasks(), ObjectLabels(clusters=80)),
        needs_init=True,
        data="COCO20k, 19,817 images of train2014",
        paper="arXiv 2206.06363; code wvangansbeke/MaskDistill; weights: DINO's ViT-S/16",
        expected="COCO20k mask AP50 after distillation: 15.3 (single), 8.0 (multi) (code's README)",
        cost="two passes over the images; tables of 14 kB per image: 290 MB each (COCO train2017: 1.7 GB)",
    ),
    Recipe(
        name="maskdistill-mini",
        method=MaskDistillConfig(backbone="vit_tiny_patch8_64"),
        epochs=0,
        batch_size=1,
        optimizer=UNUSED[0],
        schedule=UNUSED[1],
        stages=(ObjectMasks(shorter=128, longest=384, heads=3), ObjectLabels()),
        needs_init=True,
        data="a few hundred small images",
        paper="reduced from arXiv 2206.06363; weights: those of dino-vit-tiny-64px",
    ),
)
