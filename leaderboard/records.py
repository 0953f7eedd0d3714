"""The records that the three rooms hand to each other: `Card`, `ProtocolReference`, `Result`.

Each is one JSON file that a stranger can also write. Reading validates everything: an unknown field, a missing
field or a figure that is not finite is an error, never a warning. `schema_version` changes whenever a field does.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, model_validator

SCHEMA_VERSION: Literal[1] = 1

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}$")]
"""A name that is also a file name: letters, digits, dot, underscore, plus and minus."""
Triple = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
RANDOM_METHOD = "random initialisation"
"""`Card.method` of an untrained backbone: the zero of the leaderboard's normalised score."""
Task = Literal["detection", "instance segmentation", "semantic segmentation"]


class Record(BaseModel):
    """Base of all records: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> str:
        """Readable JSON with a final newline; the same record always gives the same bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


class Pretraining(Record):
    """What the backbone has seen. `None` means that its author did not say."""

    recipe: str | None = None
    data: str | None = None
    data_fingerprint: Sha256 | None = None
    images: PositiveInt | None = None
    epochs: FiniteFloat | None = Field(default=None, ge=0)
    effective_batch: PositiveInt | None = None
    crops: str | None = None
    image_views: int | None = Field(default=None, ge=0)
    """Crops shown to a trained encoder: images x epochs x views of an image."""
    resolution: PositiveInt | None = None
    seed: int | None = None
    labels: str | None = None
    """Labels used, e.g. `none` or `ImageNet-1k classes`."""


class Source(Record):
    """Where the weights came from and how they were recognised."""

    format: str
    file: str
    sha256: Sha256
    key_prefix: str = ""


class Card(Record):
    """Everything that a user of `backbone.safetensors` must know to feed it correctly."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Identifier
    """The submission's name, unique within one leaderboard (`densecl-mini`)."""
    method: str
    """The method's name as the field writes it (`DenseCL`, `random initialisation`)."""
    architecture: Literal[
        "resnet18", "resnet34", "resnet50", "resnet101", "vit_tiny_patch16", "vit_small_patch16", "vit_base_patch16"
    ]
    stem: Literal["7x7", "16x16"] = "7x7"
    """The first convolution: a ResNet's, or the patches of a ViT."""
    stride_style: Literal["pytorch"] = "pytorch"
    """`pytorch`: a bottleneck's stride sits on its 3x3 convolution (torchvision's layout)."""
    norm: Literal["BN", "LN"] = "BN"
    colour_order: Literal["RGB", "BGR"] = "RGB"
    mean: Triple = (0.485, 0.456, 0.406)
    """Per channel, in `colour_order`, for pixel values in [0, 1]."""
    std: Triple = (0.229, 0.224, 0.225)
    parameters: PositiveInt
    """Number of backbone parameters (without classifier or heads)."""
    sha256: Sha256
    """Of `backbone.safetensors`."""
    pretraining: Pretraining = Pretraining()
    source: Source
    licence: str | None = None
    code_commit: str | None = None


class ProtocolReference(Record):
    """Names one exact protocol. Only results with equal `sha256` are compared."""

    id: Identifier
    version: PositiveInt
    sha256: Sha256
    track: Identifier
    task: Task
    dataset: str
    headline: str
    """Key of the metric by which a table ranks."""


class DatasetReference(Record):
    """The very files that were used."""

    name: str
    fingerprint: Sha256
    train_images: PositiveInt
    val_images: PositiveInt


class TrainingReport(Record):
    """What was executed, read from the run and from the built model, not from a config."""

    planned_iterations: PositiveInt
    executed_iterations: int = Field(ge=0)
    batch_size: PositiveInt
    learning_rate: FiniteFloat = Field(gt=0)
    images_seen: int = Field(ge=0)
    backbone_tensors: PositiveInt
    """Number of backbone tensors proven equal to the checkpoint's in the built model."""
    trainable_parameters: PositiveInt
    frozen_parameters: int = Field(ge=0)
    head_parameters: int = Field(ge=0)


class Environment(Record):
    """The machine and the versions."""

    device: str
    precision: Literal["fp32", "bf16", "fp16"]
    threads: PositiveInt
    python: str
    packages: dict[str, str]
    code_commit: str | None = None


class Result(Record):
    """One fine-tuning run: a checkpoint under a protocol with a seed. Written once, never edited."""

    schema_version: Literal[1] = SCHEMA_VERSION
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """`result_key` of checkpoint, protocol, dataset and seed."""
    card: Card
    protocol: ProtocolReference
    dataset: DatasetReference
    seed: int = Field(ge=0)
    status: Literal["finished", "failed"]
    failure: str | None = None
    metrics: dict[str, FiniteFloat]
    """Every metric in per cent (0 to 100), the headline among them."""
    training: TrainingReport | None = None
    environment: Environment
    finished_at: datetime
    wall_seconds: FiniteFloat = Field(ge=0)
    seconds: dict[str, FiniteFloat] = {}
    """Where the time went: data, forward_backward, evaluation, ..."""
    peak_memory_mib: FiniteFloat | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Result:
        expected = result_key(self.card.sha256, self.protocol.sha256, self.dataset.fingerprint, self.seed)
        if self.key != expected:
            raise ValueError(f"key is {self.key}, but its inputs give {expected}: the file was edited")
        if self.status == "finished":
            if self.protocol.headline not in self.metrics:
                raise ValueError(f"a finished result needs its headline metric {self.protocol.headline!r}")
            if self.training is None:
                raise ValueError("a finished result needs its training report")
        elif not self.failure:
            raise ValueError("a failed result needs its failure text")
        return self

    @property
    def file_name(self) -> str:
        """Where the store keeps it: readable, unique, stable."""
        return f"{self.card.name}--{self.protocol.id}--seed{self.seed}--{self.key}.json"


def result_key(checkpoint_sha256: str, protocol_sha256: str, dataset_fingerprint: str, seed: int) -> str:
    """The first 16 digits of the hash of a run's inputs: equal inputs are the same run."""
    text = "\n".join((checkpoint_sha256, protocol_sha256, dataset_fingerprint, str(seed)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
