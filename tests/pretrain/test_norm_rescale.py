from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F
from toy import write_images

from leaderboard.records import Card, Pretraining, Source
from pretrain.data.batches import open_images
from pretrain.errors import PretrainError
from pretrain.exported import read_exported
from pretrain.nets.architectures import build_backbone
from pretrain.norm_rescale import estimate_batch_norm, norm_rescale, rescaled

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def write_export(folder: Path, seed: int, architecture: str = "resnet18", **fields: Any) -> Path:
    """A backbone of random weights of all kinds of norms, with its card."""
    torch.manual_seed(seed)
    backbone = build_backbone(architecture)
    for p in backbone.parameters():
        p.data = (1 + p.data + 0.1 * torch.randn_like(p)) * 10 ** (2 * torch.rand(()).item() - 1)
    data = save({key: value.contiguous() for key, value in backbone.state_dict().items()}, metadata={"format": "pt"})
    card = {
        "schema_version": 2,
        "stem": "7x7",
        "norm": "BN",
        "stride_style": "pytorch",
        "color_order": "RGB",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "license": None,
        "code_commit": None,
        "name": folder.name,
        "method": "BYOL",
        "architecture": architecture,
        "parameters": sum(p.numel() for p in backbone.parameters()),
        "sha256": hashlib.sha256(data).hexdigest(),
        "source": Source(format="test", file="none", sha256="0" * 64, key_prefix=""),
        "pretraining": Pretraining.known(recipe="test", resolution=32),
    }
    folder.mkdir()
    (folder / "backbone.safetensors").write_bytes(data)
    (folder / "card.json").write_text(Card.model_validate(card | fields).to_json())
    return folder


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A checkpoint, a reference and a folder of images; read-only."""
    folder = tmp_path_factory.mktemp("rescale")
    return write_export(folder / "b", 0), write_export(folder / "a", 1), write_images(folder / "images")


def norm(x: Tensor) -> float:
    return x.double().norm().item()


def test_norms_are_the_references_and_directions_stay(exports: tuple[Path, Path, Path], tmp_path: Path) -> None:
    checkpoint, reference, images = exports
    out = norm_rescale(checkpoint, reference, tmp_path / "out", images=open_images(images), workers=0)
    old, ref, new = (read_exported(folder).tensors for folder in (checkpoint, reference, out))
    learnable = [key for key in new if not key.endswith(BUFFERS)]
    assert len(learnable) == len(list(build_backbone("resnet18").parameters())) == 60
    for key in learnable:
        assert norm(new[key]) == pytest.approx(norm(ref[key]), rel=1e-6), key
        cosine = F.cosine_similarity(new[key].flatten().double(), old[key].flatten().double(), dim=0)
        assert cosine.item() == pytest.approx(1, abs=1e-9), key
        assert not torch.equal(new[key], old[key])


def test_the_card_says_what_was_done(exports: tuple[Path, Path, Path], tmp_path: Path) -> None:
    checkpoint, reference, images = exports
    out = norm_rescale(checkpoint, reference, tmp_path / "out", images=open_images(images), workers=0)
    card, old, ref = (read_exported(folder).card for folder in (out, checkpoint, reference))
    assert (card.name, card.method) == ("b-rescaled", "BYOL + NormRescale")
    assert card.source.sha256 == old.sha256 != card.sha256
    for words in (f"norms of a ({ref.sha256[:12]})", "18 crops of images"):
        assert words in card.source.format
    assert card.pretraining == old.pretraining
    assert (out / "card.json").read_text() == card.to_json()


def test_it_is_idempotent_and_changes_no_weight_of_the_reference(
    exports: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    checkpoint, reference, images = exports
    source = open_images(images)
    once = norm_rescale(checkpoint, reference, tmp_path / "once", images=source, workers=0)
    twice = norm_rescale(once, reference, tmp_path / "twice", images=source, workers=0, name="twice")
    itself = norm_rescale(reference, write_copy(reference, tmp_path), tmp_path / "same", images=source, workers=0)
    for a, b in ((once, twice), (reference, itself)):
        first, second = (read_exported(folder).tensors for folder in (a, b))
        for key, value in first.items():
            if not key.endswith(BUFFERS):
                torch.testing.assert_close(second[key], value, rtol=1e-6, atol=0)


def write_copy(folder: Path, into: Path) -> Path:
    copy = into / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_literal_rescales_the_running_statistics_too(exports: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """The authors' script, tensor by tensor: b / |b| * |a| for everything that holds fractions."""
    checkpoint, reference, _ = exports
    out = norm_rescale(checkpoint, reference, tmp_path / "out", literal=True, name="literal")
    exported = read_exported(out)
    card, new = exported.card, exported.tensors
    old, ref = (load_file(folder / "backbone.safetensors") for folder in (checkpoint, reference))
    for key, b in old.items():
        if b.is_floating_point() and norm(b):
            torch.testing.assert_close(new[key], b / norm(b) * norm(ref[key]), rtol=1e-6, atol=0)
        else:
            assert torch.equal(new[key], b)
    assert card.name == "literal" and "running statistics like weights" in card.source.format


def test_a_tensor_of_zeros_stays_and_one_of_counts_too() -> None:
    weights = {"zero": torch.zeros(3), "count": torch.tensor(7), "w": torch.tensor([3.0, 4.0]), "other": torch.ones(4)}
    reference = {
        "zero": torch.ones(3),
        "count": torch.tensor(9),
        "w": torch.tensor([0.0, 10.0]),
        "other": torch.ones(1),
    }
    got = rescaled(weights, reference, {"zero", "w"})
    assert got["zero"].tolist() == [0, 0, 0] and got["count"] == 7
    assert got["w"].tolist() == [6.0, 8.0]
    assert got["other"].tolist() == [1] * 4
    assert rescaled(weights, reference)["other"].tolist() == [0.5] * 4


def test_rescaled_convolutions_alone_change_nothing_once_batch_norm_is_estimated() -> None:
    """Batch norm undoes the scale of a convolution, in training and with statistics estimated on the same images."""
    torch.manual_seed(0)
    backbone, scaled = build_backbone("resnet18"), build_backbone("resnet18")
    weights = backbone.state_dict()
    scaled.load_state_dict({key: 3 * w if w.dim() == 4 else w for key, w in weights.items()})
    batches = [torch.randn(4, 3, 64, 64) for _ in range(3)]
    for net in (backbone, scaled):
        assert estimate_batch_norm(net, batches) == 12
    torch.testing.assert_close(scaled(batches[0]), backbone(batches[0]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scaled.eval()(batches[0]), backbone.eval()(batches[0]), rtol=1e-3, atol=1e-3)


def test_statistics_are_the_mean_over_all_batches() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(5, 3, 4, 4) * scale for scale in (1.0, 2.0, 4.0)]
    layer = nn.BatchNorm2d(3)
    layer(batches[0])  # what was there before does not count
    estimate_batch_norm(nn.Sequential(layer), batches)
    assert layer.momentum == 0.1
    for statistic, of in ((layer.running_mean, torch.mean), (layer.running_var, torch.var)):
        expected = torch.stack([of(x.transpose(0, 1).flatten(1), dim=1) for x in batches]).mean(0)
        torch.testing.assert_close(statistic, expected)


def test_images_reach_the_backbone_in_its_order_of_colours(tmp_path: Path) -> None:
    """Statistics of the first layer, against numpy on constant images: no crop changes those."""
    from PIL import Image

    (tmp_path / "flat").mkdir()
    for i in range(4):
        Image.new("RGB", (40, 40), (200, 100, 0)).save(tmp_path / "flat" / f"{i}.png")
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)
    checkpoint = write_export(tmp_path / "bgr", 0, color_order="BGR", mean=mean, std=std)
    out = norm_rescale(
        checkpoint,
        write_export(tmp_path / "ref", 1),
        tmp_path / "out",
        workers=0,
        images=open_images(tmp_path / "flat"),
    )
    new = read_exported(out).tensors
    pixel = (np.array([0, 100, 200]) / 255 - mean) / std
    x = torch.from_numpy(pixel).float()[None, :, None, None].expand(1, 3, 32, 32)
    expected = F.conv2d(x, new["conv1.weight"], stride=2, padding=3).mean((0, 2, 3))
    torch.testing.assert_close(new["bn1.running_mean"], expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_work_is_refused(exports: tuple[Path, Path, Path], tmp_path: Path) -> None:
    checkpoint, reference, images = exports
    source = open_images(images)
    with pytest.raises(PretrainError, match="another --out"):
        norm_rescale(checkpoint, reference, reference, images=source)
    with pytest.raises(PretrainError, match=r"give either --data IMAGES.* or --literal"):
        norm_rescale(checkpoint, reference, tmp_path / "out")
    with pytest.raises(PretrainError, match="No such file"):
        norm_rescale(tmp_path / "none", reference, tmp_path / "out", images=source)
    with pytest.raises(PretrainError, match="is a resnet18, but the reference"):
        norm_rescale(checkpoint, write_export(tmp_path / "large", 0, "resnet34"), tmp_path / "out", images=source)
    with pytest.raises(PretrainError, match="the card is not valid: name"):
        norm_rescale(checkpoint, reference, tmp_path / "out", literal=True, name="not a name")
    damaged = write_copy(checkpoint, tmp_path)
    (damaged / "backbone.safetensors").write_bytes(b"nothing")
    with pytest.raises(PretrainError, match="not the file that its card"):
        norm_rescale(damaged, reference, tmp_path / "out", literal=True)
    assert not (tmp_path / "out").exists()
