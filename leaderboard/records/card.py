"""The card: what a user of `backbone.safetensors` must know to give it correct inputs, and where it comes from."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from leaderboard.records.base import (
    Amount,
    Count,
    Identifier,
    Key,
    Line,
    Positive,
    PositiveShare,
    Record,
    Sha256,
    Share,
)

RANDOM_METHOD = "random initialisation"
"""`Card.method` of an untrained backbone: the zero of the leaderboard's normalized score."""


class InitialWeights(Record):
    """The trained backbone from which a pretraining started."""

    name: Line
    """Name of the backbone, from its card or its file."""
    sha256: Sha256
    """Hash of the trained backbone's `backbone.safetensors`."""


class Stage(Record):
    """One stage of a pretraining that has several: training, or something computed from the stage before."""

    name: Line
    sha256: Sha256
    """Hash of what the stage passes on to the next one: weights, masks, neighbors, clusters."""
    seconds: Amount
    image_views: Count
    """Crops shown to an encoder that the stage trains; 0 where it computes something."""


class Cost(Record):
    """What the last stage of a pretraining took; earlier stages are not counted."""

    seconds: Amount
    """Wall-clock seconds of training, without interruptions."""
    images_per_second: Amount
    """Images per second, summed over all processes."""
    device: Line
    processes: Positive
    peak_memory_mib: Amount
    """Peak memory of one process in MiB: allocated on a GPU, resident on a CPU."""


class Copies(Record):
    """What a search for copies of a data set's test images among the pretraining images found."""

    dataset: Line
    tested: Positive
    """Number of the data set's test images."""
    copies: Count
    """Number of those of which a copy is among the pretraining images."""

    @model_validator(mode="after")
    def _of_the_tested(self) -> Self:
        if self.copies > self.tested:
            raise ValueError(f"{self.copies} copies of {self.tested} test images")
        return self


class Pretraining(Record):
    """How the backbone was pretrained, and on what. `None` means that its author did not say."""

    recipe: Line | None
    recipe_sha256: Sha256 | None
    """Hash of all settings of the recipe, without the seed."""
    group: Key | None
    """The `group_id`: equal for runs that differ in nothing but their pretraining seed, which can form one row."""
    data: Line | None
    data_fingerprint: Sha256 | None
    images: Positive | None
    epochs: Amount | None
    effective_batch: Positive | None
    crops: Line | None
    image_views: Count | None
    """Crops shown to a trained encoder: images x epochs x views of an image, over all stages."""
    resolution: Positive | None
    seed: Count | None
    labels: Line | None
    """Labels used, e.g. `none` or `ImageNet-1k classes`."""
    init: InitialWeights | None
    """The weights from which it started; `None` for random initialization, or where this is not known."""
    stages: Annotated[tuple[Stage, ...], Field(max_length=20)]
    """The stages in their order; empty for a pretraining of one stage."""
    cost: Cost | None
    copies: Annotated[tuple[Copies, ...], Field(max_length=100)] | None
    """What searches for copies of test images found, one per data set; `None` where nobody searched."""

    def copies_of(self, dataset: str) -> Copies | None:
        """What a search for copies of the test images of `dataset` found; `None` where nobody searched."""
        return next((found for found in self.copies or () if found.dataset == dataset), None)

    @classmethod
    def known(cls, **facts: Any) -> Self:
        """A pretraining of which only `facts` are known: every other field is None, and there are no stages."""
        return cls.model_validate({**dict.fromkeys(cls.model_fields), "stages": (), **facts})

    @model_validator(mode="after")
    def _group_follows_from_its_inputs(self) -> Self:
        if self.group is not None and self.recipe_sha256 is not None and self.data_fingerprint is not None:
            expected = group_id(self.recipe_sha256, self.data_fingerprint, self.init.sha256 if self.init else None)
            if self.group != expected:
                raise ValueError(f"group is {self.group}, but recipe, data and init give {expected}")
        return self


class Source(Record):
    """Where the weights came from and how their format was recognized."""

    format: Line
    file: Line
    """The file's name, without its folder."""
    sha256: Sha256
    key_prefix: Annotated[str, Field(max_length=200)]
    """Prefix of every backbone tensor's name in the file; often empty."""


class Card(Record):
    """The card of a backbone, written next to `backbone.safetensors` as `card.json`."""

    schema_version: Literal[2]
    name: Identifier
    """The submission's name, unique within one leaderboard (`densecl-mini`)."""
    method: Line
    """The method's name as the field writes it (`DenseCL`, `random initialisation`)."""
    architecture: Identifier
    """The name that torchvision (`resnet50`) or timm (`vit_small_patch16`) uses."""
    stem: Identifier
    """The first convolution or convolutions: `7x7` of a ResNet, `3x3+3x3+3x3` of a deep stem, `16x16` of a ViT's
    patches, `4x4` of a ConvNeXt."""
    norm: Literal["BN", "GN", "LN", "none"]
    """Kind of the backbone's normalization layers: batch, group or layer normalization."""
    stride_style: Literal["pytorch", "caffe", "none"]
    """Where a ResNet's blocks have their stride: `pytorch` on the 3x3 convolution (torchvision's layout), `caffe` on
    the first 1x1; `none` for architectures without such blocks."""
    color_order: Literal["RGB", "BGR"]
    mean: tuple[Share, Share, Share]
    """Mean that is subtracted per channel, in `color_order`, for pixel values in [0, 1]."""
    std: tuple[PositiveShare, PositiveShare, PositiveShare]
    """Standard deviation by which each channel is then divided, in `color_order`, for pixel values in [0, 1]."""
    parameters: Positive
    """Number of backbone parameters (without classifier or heads)."""
    sha256: Sha256
    """Hash of `backbone.safetensors`."""
    pretraining: Pretraining
    source: Source
    license: Line | None
    """License of the weights: an SPDX identifier (`Apache-2.0`, `CC-BY-NC-4.0`) where there is one, else one line."""
    code_commit: Line | None
    """Commit of the code that trained the weights, with `-dirty` where that code was changed."""


def group_id(recipe_sha256: str, data_fingerprint: str, init_sha256: str | None) -> str:
    """16 hexadecimal digits, equal for all pretraining runs that differ in nothing but their seed."""
    text = "\n".join((recipe_sha256, data_fingerprint, init_sha256 or "none"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
