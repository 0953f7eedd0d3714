"""Starting a run from another's backbone: the weights of an export folder, identified by their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from leaderboard.base.errors import RecordError
from leaderboard.base.files import file_sha256
from leaderboard.records import read_card_json
from pretrain.errors import PretrainError

WEIGHTS = "backbone.safetensors"


def weights_sha256(folder: str) -> str:
    """The hash of the backbone in the export folder `folder`.

    Raises:
        PretrainError: there is none, or it is not the one that the folder's card describes.
    """
    path = Path(folder)
    try:
        card = read_card_json((path / "card.json").read_bytes())
        found = file_sha256(path / WEIGHTS)
    except OSError as error:
        raise PretrainError(
            f"{error.filename}: {error.strerror}; method.init_from must name a folder that an export or import wrote"
        ) from error
    except RecordError as error:
        raise PretrainError(f"{path / 'card.json'} is no valid card: {error}") from error
    if found != card.sha256:
        raise PretrainError(f"{path / WEIGHTS} is not the file that its card.json describes; export it again")
    return found


def load_weights(backbone: nn.Module, folder: str, sha256: str) -> None:
    """Fill `backbone` from the export folder `folder`, every tensor of it and nothing else.

    Raises:
        PretrainError: the file is missing, is not the one with the hash `sha256`, or is of another architecture.
    """
    path = Path(folder) / WEIGHTS
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PretrainError(f"{path}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise PretrainError(f"{path} has changed since this run was set up: put the first file back, or start anew")
    try:
        backbone.load_state_dict(load(data))
    except (RuntimeError, SafetensorError) as error:
        raise PretrainError(f"{path} does not fill the recipe's backbone: {error}") from error
