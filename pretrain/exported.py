"""The exported backbone: the only format in which packages exchange networks, read and written only here.

A folder holds

    backbone.safetensors    the tensors, torchvision's names for ResNets, timm's for ViTs
    card.json               their input, and where they come from (`leaderboard.records.Card`)
    head.safetensors        the segmentation head, if the method trains one

Equal weights give equal bytes: tensors are sorted by name, without dates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from leaderboard.base.errors import FileError, RecordError
from leaderboard.base.files import make_folder, read_bounded, write_atomic
from leaderboard.base.validation import first_problem
from leaderboard.records import MAX_BYTES, SCHEMA_VERSION, Card, Identifier, read_card_json
from pretrain.errors import PretrainError
from pretrain.nets.architectures import (
    Backbone,
    TimmArchitecture,
    build_backbone,
    find_architecture,
    parameter_count,
    tensor_shapes,
)

WEIGHTS, CARD, HEAD = "backbone.safetensors", "card.json", "head.safetensors"
_NAME: TypeAdapter[str] = TypeAdapter(Identifier)


@dataclass(frozen=True)
class ExportedBackbone:
    """A checked exported backbone in memory: the card belongs to the tensors, which fill the card's architecture."""

    folder: Path
    card: Card
    tensors: Mapping[str, Tensor]

    def build(self) -> Backbone:
        """A new network of the card's architecture with these weights. Draws nothing from the caller's generator."""
        # timm's models compute buffers that no state dict holds: they must not be empty
        device = "cpu" if isinstance(find_architecture(self.card.architecture), TimmArchitecture) else "meta"
        with torch.random.fork_rng(devices=[]), torch.device(device):
            network = build_backbone(self.card.architecture)
        network.load_state_dict({name: tensor.clone() for name, tensor in self.tensors.items()}, assign=True)
        return network


def is_exported(path: Path) -> bool:
    """Whether `path` is a folder with weights and card."""
    return (path / WEIGHTS).is_file() and (path / CARD).is_file()


def read_card(folder: Path) -> Card:
    """The card in `folder`.

    Raises:
        PretrainError: it is missing or not valid.
    """
    path = folder / CARD
    try:
        return read_card_json(read_bounded(path, MAX_BYTES))
    except FileError as error:
        raise PretrainError(f"{error}, so it is not a card") from error
    except OSError as error:
        raise PretrainError(
            f"{path}: {error.strerror}; give a folder that `densebench export` or an import wrote"
        ) from error
    except RecordError as error:
        raise PretrainError(f"{path} is not a valid card: {error}") from error


def read_exported(folder: Path) -> ExportedBackbone:
    """The exported backbone in `folder`, with every check.

    Raises:
        PretrainError: a file is missing or damaged, the weights are not those of the card, or they do not fill the
            card's architecture.
    """
    card, path = read_card(folder), folder / WEIGHTS
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PretrainError(
            f"{path}: {error.strerror}; give a folder that `densebench export` or an import wrote"
        ) from error
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise PretrainError(f"{path} is not the file that its {CARD} describes: export or import it again")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as error:
        raise PretrainError(f"{path} is damaged ({error}): export or import it again") from error
    check_complete(tensors, card.architecture, path)
    return ExportedBackbone(folder, card, tensors)


def read_head(folder: Path) -> tuple[dict[str, Tensor], str]:
    """The pretrained segmentation head in `folder`, and the hash of its file.

    Raises:
        PretrainError: there is none, it is damaged, or a value is not finite.
    """
    path = folder / HEAD
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise PretrainError(
            f"{folder} has no {HEAD}: only some methods (CP2) train a segmentation head and export it; a card alone "
            "says nothing of one"
        ) from error
    except OSError as error:
        raise PretrainError(f"{path}: {error.strerror}") from error
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as error:
        raise PretrainError(f"{path} is damaged ({error}): export or import it again") from error
    _check_finite(tensors, path)
    return tensors, hashlib.sha256(data).hexdigest()


def check_complete(tensors: Mapping[str, Tensor], architecture: str, where: Path) -> None:
    """Check that tensors have the names and shapes of an architecture, and finite values.

    Raises:
        PretrainError: they do not; the message names `where` and the first wrong tensor.
    """
    expected = tensor_shapes(architecture)
    wrong = [name for name, shape in expected.items() if name not in tensors or tuple(tensors[name].shape) != shape]
    wrong += [name for name in tensors if name not in expected]
    if wrong:
        raise PretrainError(
            f"{where} does not hold a complete {architecture}: {len(wrong)} tensors are missing, of another shape or "
            f"left over, the first {wrong[0]}"
        )
    _check_finite(tensors, where)


def write_exported(
    folder: Path,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    *,
    head: Mapping[str, Tensor] | None = None,
    where: Path | None = None,
) -> Card:
    """Write weights, card and, if there is one, the head into `folder`, which is made; returns the card.

    `facts` are the card's fields except those that follow from the weights (see `make_card`). `where` names the source
    of the tensors in messages (default: `folder`).

    Raises:
        PretrainError: the tensors do not fill the architecture or are not finite, or a field is not valid.
        FileError: the folder cannot be written.
    """
    check_complete(tensors, facts["architecture"], where or folder)
    if head:
        _check_finite(head, where or folder)
    data = serialized(tensors)
    card = make_card(facts, hashlib.sha256(data).hexdigest())
    write_files(folder, data, card, head=serialized(head) if head else None)
    return card


def write_files(folder: Path, data: bytes, card: Card, *, head: bytes | None = None) -> None:
    """Write weights in the safetensors format, their card and a head into `folder`, which is made.

    A card is never next to other weights than its own: the old card is removed first, the new one is written last.

    Raises:
        FileError: the folder cannot be written.
    """
    make_folder(folder)
    for stale in (CARD, HEAD):
        (folder / stale).unlink(missing_ok=True)
    write_atomic(folder / WEIGHTS, data)
    if head is not None:
        write_atomic(folder / HEAD, head)
    write_atomic(folder / CARD, card.to_json())


def make_card(facts: Mapping[str, Any], sha256: str) -> Card:
    """The card of weights with this hash: `facts`, and the fields that follow from the architecture.

    Raises:
        PretrainError: the architecture is not known, or a field is not valid.
    """
    check_name(facts["name"])
    architecture = find_architecture(facts["architecture"])
    follows = {
        "schema_version": SCHEMA_VERSION,
        "stem": architecture.stem,
        "norm": architecture.norm,
        "stride_style": architecture.stride_style,
        "parameters": parameter_count(architecture.name),
        "sha256": sha256,
    }
    try:
        return Card.model_validate({**facts, **follows})
    except ValidationError as error:
        raise PretrainError(f"the card is not valid: {first_problem(error)}") from error


def check_name(name: str) -> None:
    """Check that a card can have this name.

    Raises:
        PretrainError: it cannot.
    """
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise PretrainError(
            f"the card is not valid: name {name!r}; give --name 1 to 80 letters, digits and . _ + -, beginning with a "
            "letter or a digit"
        ) from error


def serialized(tensors: Mapping[str, Tensor]) -> bytes:
    """The tensors as safetensors, sorted by name: equal weights give equal bytes."""
    return save({name: tensors[name].contiguous() for name in sorted(tensors)}, metadata={"format": "pt"})


def _check_finite(tensors: Mapping[str, Tensor], where: Path) -> None:
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise PretrainError(f"{where}: {broken[0]} holds values that are not finite: has the run diverged?")
