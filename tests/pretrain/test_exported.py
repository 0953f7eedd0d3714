"""The one module that reads and writes the exported backbone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from leaderboard.base.errors import FileError
from leaderboard.records import Pretraining, Source
from pretrain.errors import PretrainError
from pretrain.exported import CARD, HEAD, WEIGHTS, is_exported, read_card, read_exported, serialized, write_exported
from pretrain.nets.architectures import build_backbone

FACTS: dict[str, Any] = {
    "name": "one",
    "method": "MoCo v2",
    "architecture": "resnet18",
    "color_order": "RGB",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "pretraining": Pretraining.known(),
    "source": Source(format="test", file="x.pth", sha256="0" * 64, key_prefix=""),
    "license": None,
    "code_commit": None,
}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return build_backbone("resnet18").state_dict()


@pytest.mark.parametrize("architecture", ["resnet18", "vit_tiny_patch16"])
def test_what_is_written_is_read_with_the_same_bits(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = build_backbone(architecture).state_dict()
    card = write_exported(tmp_path / "out", state, FACTS | {"architecture": architecture}, head={"w": torch.ones(2)})
    exported = read_exported(tmp_path / "out")
    assert exported.card == card == read_card(tmp_path / "out") and is_exported(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted((WEIGHTS, CARD, HEAD))
    before = torch.random.get_rng_state()
    network = exported.build()
    assert torch.equal(torch.random.get_rng_state(), before)  # a run that starts from it draws as any other
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name]) and tensor.dtype == state[name].dtype, name
    assert all(p.requires_grad for p in network.parameters())


def test_equal_weights_give_equal_bytes(tensors: dict[str, Tensor]) -> None:
    shuffled = dict(reversed(tensors.items()))
    assert serialized(shuffled) == serialized(tensors)


def test_writing_again_leaves_nothing_of_the_earlier_backbone(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    write_exported(tmp_path, tensors, FACTS, head={"w": torch.ones(2)})
    write_exported(tmp_path, tensors, FACTS | {"name": "two"})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((WEIGHTS, CARD))
    assert read_card(tmp_path).name == "two"


def changed(tensors: dict[str, Tensor], **changes: Tensor | None) -> dict[str, Tensor]:
    return {name: value for name, value in {**tensors, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conv1.weight": None}, "a complete resnet18.*conv1.weight"),
        ({"fc.weight": torch.ones(2)}, "a complete resnet18.*fc.weight"),
        ({"bn1.bias": torch.ones(3)}, "a complete resnet18.*bn1.bias"),
        ({"bn1.bias": torch.full((64,), float("nan"))}, "bn1.bias holds values that are not finite"),
    ],
)
def test_tensors_that_are_no_backbone_are_never_written(
    change: dict[str, Tensor | None], words: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(PretrainError, match=words):
        write_exported(tmp_path / "out", changed(tensors, **change), FACTS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"name": "no name"}, "card is not valid: name"),
        ({"std": (0.0, 0.2, 0.2)}, "card is not valid: std"),
        ({"architecture": "resnet19"}, "no backbone 'resnet19'"),
    ],
)
def test_facts_that_make_no_card_are_refused(
    facts: dict[str, Any], words: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(PretrainError, match=words):
        write_exported(tmp_path / "out", tensors, FACTS | facts)


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)


def other_hash(folder: Path) -> None:
    """Weights that are whole but not in safetensors' form, under a card that has their hash."""
    import hashlib

    (folder / WEIGHTS).write_bytes(b"nothing")
    card = json.loads((folder / CARD).read_text()) | {"sha256": hashlib.sha256(b"nothing").hexdigest()}
    (folder / CARD).write_text(json.dumps(card))


def other_architecture(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text()) | {"architecture": "resnet34"}
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / CARD).unlink(), "card.json: No such file"),
        (lambda folder: (folder / WEIGHTS).unlink(), "backbone.safetensors: No such file"),
        (lambda folder: (folder / CARD).write_text("{"), "card.json is not a valid card"),
        (
            lambda folder: (folder / CARD).write_text(" " * 2_000_000),
            "card.json: is longer than .* bytes, so it is not a card",
        ),
        (flip_a_bit, "not the file that its card.json describes"),
        (other_hash, "backbone.safetensors is damaged"),
        (other_architecture, "does not hold a complete resnet34"),
    ],
)
def test_damaged_folders_are_refused_by_name(
    damage: Callable[[Path], None], words: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    write_exported(tmp_path, tensors, FACTS)
    damage(tmp_path)
    with pytest.raises(PretrainError, match=words):
        read_exported(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileError, match="cannot make the folder"):
        write_exported(tmp_path / "file" / "out", tensors, FACTS)
