"""Classifiers of images with one class each (`bench.openmmlab.classification`), and their images."""

from typing import Any

from transfer_configs.parts import backbones


def linear_on_mean(*, std: float | None = None) -> dict[str, Any]:
    """The checkpoint's network with a linear layer on the mean of its last map, one score for each class of the data.

    Weights of the layer start from N(0, `std`) and biases from 0; None: both from PyTorch's uniform distribution.
    """
    return dict(
        type="ImageClassifier",
        data_preprocessor=dict(
            type="ImgDataPreprocessor", mean="card:mean", std="card:std", bgr_to_rgb="card:bgr_to_rgb"
        ),
        backbone=backbones.resnet((3,)),
        channels="card:c5_channels",
        classes="data:image_classes",
        std=std,
    )


def training(dataset: str, side: int, **more: Any) -> dict[str, Any]:
    """Training images of one of ImageNet's variants, as random crops of `side` pixels, flipped with probability 1/2.

    `more` may be `share` and `fold` (see `datasets.share`): the share of each class's images that is used.
    """
    return _images(dataset, "train", dict(type="RandomSquare", side=side, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3)), more)


def testing(dataset: str, side: int) -> dict[str, Any]:
    """Validation images, the central `side` pixels after the shorter side was scaled to 8/7 of it."""
    return _images(dataset, "val", dict(type="CentralSquare", side=side), dict(test_mode=True))


def _images(dataset: str, part: str, square: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return dict(
        type="DenseBenchClassified",
        data_root="run:data_root",
        name=dataset,
        part=part,
        pipeline=[dict(type="LoadStoredImage"), square, dict(type="PackClassified")],
        **more,
    )
