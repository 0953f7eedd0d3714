"""The result: one evaluation of a checkpoint under a protocol with a seed."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from leaderboard.records.base import (
    Amount,
    Count,
    Key,
    Line,
    Percent,
    Positive,
    Record,
    Sha256,
)
from leaderboard.records.card import Card
from leaderboard.records.protocol import DatasetReference, ProtocolReference
from leaderboard.records.sweep import Sweep

HEAD = "head.safetensors"
"""Key, in `Result.outputs`, of a pretrained segmentation head that was loaded with the backbone."""


class TrainingReport(Record):
    """What a fine-tuning run executed, read from the run and from the built model, not from a config."""

    planned_iterations: Positive
    executed_iterations: Count
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    images_seen: Count
    backbone_tensors: Positive
    """Number of backbone tensors proven equal to the checkpoint's in the built model."""
    trainable_parameters: Positive
    frozen_parameters: Count
    head_parameters: Count


class ProbeReport(Record):
    """What a probe of a frozen backbone executed."""

    backbone_tensors: Positive
    """Number of backbone tensors proven equal to the checkpoint's in the network that was probed."""
    head_parameters: Count
    """Number of learned parameters of the classifier or head on the cells; 0 where there is none."""
    channels: Positive
    """Number of channels of a cell's feature."""
    training_cells: Count
    """Number of cells on which a classifier or clusters were fitted; 0 where nothing is fitted."""
    images_evaluated: Positive
    chosen: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    """Value of the hyperparameter that did best on held-out training images; None where nothing is chosen."""
    candidates: Annotated[dict[Line, Percent], Field(max_length=100)]
    """Score of each value of the hyperparameter on those images, in per cent; empty where nothing is chosen."""


class Operations(Record):
    """Floating-point operations of the evaluated network for one image, forward, counted on the network's layers.

    Convolutions, matrix products and attention count, a multiplication and an addition as two operations (papers often
    count them as one).
    """

    height: Positive
    """Height in pixels of the image: a segmenter's training crop, a detector's largest test image, a probe's image."""
    width: Positive
    backbone: Positive
    head: Count | None
    """Operations of all other parts. A detector's heads are counted for the most regions that its protocol keeps. None
    for a probe that has no layers of its own."""


class Environment(Record):
    """The machine and the versions."""

    device: Line
    precision: Literal["fp32", "bf16", "fp16"]
    threads: Positive
    python: Line
    packages: Annotated[dict[Line, Line], Field(max_length=500)]
    code_commit: Line | None
    """Commit of the evaluation's code, with `-dirty` where that code was changed."""


class Result(Record):
    """One run of fine-tuning or a probe: a checkpoint under a protocol with a seed. Written once, never edited."""

    schema_version: Literal[2]
    key: Key
    """The `result_key` of checkpoint, protocol, data set and seed, and of a head that was loaded."""
    card: Card
    protocol: ProtocolReference
    dataset: DatasetReference
    seed: Count
    status: Literal["finished", "failed"]
    failure: Annotated[str, Field(min_length=1, max_length=4000)] | None
    metrics: Annotated[dict[Line, Percent], Field(max_length=2000)]
    """Every metric in per cent (0 to 100), the headline among them."""
    standard_errors: Annotated[dict[Line, Amount], Field(max_length=2000)]
    """Standard errors of metrics for the draw of the validation images, in points of per cent; empty if unknown."""
    training: TrainingReport | None
    """What a fine-tuning run executed; `None` for a probe."""
    probe: ProbeReport | None
    """What the probe of a frozen backbone executed; `None` for a fine-tuning run."""
    operations: Operations | None
    """Operations of backbone and head; `None` if unknown."""
    environment: Environment
    verification: Literal["self-reported", "logs", "re-run"]
    """What others than the author have checked: nothing, the run's logs, or the values by repeating the run. A file's
    own word is not believed: tables show what `leaderboard.checked` finds."""
    sweep: Sweep | None
    """The search that chose the settings, or to which the run belongs; `None` for the protocol's own settings."""
    outputs: Annotated[dict[Line, Sha256], Field(max_length=100)]
    """Hashes of the files that belong to the run, so that these can be published and identified: per-image outputs
    (`detections.json`) and, of a fine-tuning, its losses and weights, and the pretrained head that it loaded (`HEAD`),
    if it did."""
    finished_at: AwareDatetime
    wall_seconds: Amount
    seconds: Annotated[dict[Line, Amount], Field(max_length=100)]
    """Seconds that each part of the run took: data, forward_backward, evaluation, ..."""
    peak_memory_mib: Amount | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Raise ValueError where the fields contradict each other."""
        inputs = (self.card.sha256, self.protocol.sha256, self.dataset.fingerprint, self.seed)
        expected = result_key(*inputs, self.outputs.get(HEAD))
        if self.key != expected:
            raise ValueError(f"key is {self.key}, but its inputs give {expected}: the file was edited")
        if self.status == "finished":
            if self.protocol.headline not in self.metrics:
                raise ValueError(f"a finished result needs its headline metric {self.protocol.headline!r}")
            self._require_complete()
        elif not self.failure:
            raise ValueError("a failed result needs its failure text")

    def _require_complete(self) -> None:
        """Raise ValueError unless what was executed is what was planned."""
        training, probe = self.training, self.probe
        if (training is None) == (probe is None):
            raise ValueError("a finished result has either the report of its training or that of its probe")
        short = "a finished result has executed what was planned, but"
        if training is not None and training.executed_iterations != training.planned_iterations:
            raise ValueError(
                f"{short} {training.executed_iterations} of {training.planned_iterations} iterations were executed"
            )
        rate = None if self.sweep is None else self.sweep.settings.get("learning_rate")
        if training is not None and rate is not None and abs(training.learning_rate - float(rate)) > 1e-3 * float(rate):
            raise ValueError(f"its sweep says learning rate {rate}, but {training.learning_rate} was executed")
        if probe is not None and probe.images_evaluated != self.dataset.val_images:
            raise ValueError(f"{short} {probe.images_evaluated} of {self.dataset.val_images} images were evaluated")

    @property
    def held_out(self) -> bool:
        """Whether it is a run of a sweep: its values are on held-out training images and are never ranked."""
        return self.sweep is not None and not self.sweep.tried

    @property
    def file_name(self) -> str:
        """Where the store keeps it: readable, unique, stable."""
        return f"{self.card.name}--{self.protocol.id}--seed{self.seed}--{self.key}.json"


def result_key(
    checkpoint_sha256: str, protocol_sha256: str, dataset_fingerprint: str, seed: int, head_sha256: str | None = None
) -> str:
    """The first 16 digits of the hash of a run's inputs: equal inputs are the same run.

    `head_sha256` is that of the pretrained head that is loaded with the backbone; None where heads start at random.
    """
    inputs = [checkpoint_sha256, protocol_sha256, dataset_fingerprint, str(seed)]
    text = "\n".join(inputs if head_sha256 is None else [*inputs, head_sha256])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
