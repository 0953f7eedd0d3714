"""The classifier trained with labels: its loss and gradients against plain sums, and where classes come from."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from toy import write_images

from pretrain.data.batches import open_images
from pretrain.data.labels import folder_labels
from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.export import export
from pretrain.methods import all_recipes
from pretrain.methods.supervised import Supervised, SupervisedConfig
from pretrain.optim.schedules import StepSchedule
from pretrain.recipes import override
from pretrain.run.train import train

CLASSES = 3


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_images(tmp_path / "pictures", 12, classes=CLASSES)


class Network(nn.Conv2d):
    """Images (N, 3, 32, 32) -> maps (N, 5, 4, 4)."""

    width = 5

    def __init__(self) -> None:
        super().__init__(3, self.width, 8, 8)


def views_of(ids: list[int]) -> list[View]:
    n = len(ids)
    pixels = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [View(pixels, torch.zeros(n, 4), torch.zeros(n, dtype=torch.bool), torch.tensor(ids))]


def prepared(pictures: Path, tmp_path: Path) -> Supervised:
    torch.manual_seed(0)
    method = SupervisedConfig(view_size=32).build(Network()).double()
    method.prepare(open_images(pictures), tmp_path)
    return method


def test_the_loss_is_the_mean_surprise_at_the_classes(pictures: Path, tmp_path: Path) -> None:
    method, source = prepared(pictures, tmp_path), open_images(pictures)
    ids = [7, 0, 11, 3]
    views = views_of(ids)
    out = method(views)
    features = method.backbone(views[0].pixels).mean((2, 3)).tolist()
    weight, bias = method.classifier.weight.tolist(), method.classifier.bias.tolist()
    losses, hits, slopes = [], [], [[0.0] * CLASSES for _ in ids]
    for row, (image, feature) in enumerate(zip(ids, features, strict=True)):
        label = int(source.name(image).partition("/")[0].removeprefix("class"))
        y = [sum(w * x for w, x in zip(ws, feature, strict=True)) + b for ws, b in zip(weight, bias, strict=True)]
        total = sum(math.exp(value) for value in y)
        losses.append(math.log(total) - y[label])
        hits.append(max(range(CLASSES), key=y.__getitem__) == label)
        slopes[row] = [(math.exp(value) / total - (k == label)) / len(ids) for k, value in enumerate(y)]
    assert out["loss"].item() == pytest.approx(sum(losses) / len(ids), rel=1e-12)
    assert out["accuracy"].item() == sum(hits) / len(ids)
    out["loss"].backward()
    assert method.classifier.bias.grad is not None
    expected = [sum(slope[k] for slope in slopes) for k in range(CLASSES)]
    assert method.classifier.bias.grad.tolist() == pytest.approx(expected, abs=1e-12)


def test_classes_are_first_folders_and_shards_have_them(tmp_path: Path) -> None:
    for name in ("b/x/1.png", "a/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    labels = folder_labels(open_images(tmp_path))
    assert (labels.classes, labels.numbers.tolist()) == (("a", "b"), [0, 1, 1])


def test_without_classes_nothing_is_trained(tmp_path: Path) -> None:
    flat = open_images(write_images(tmp_path / "flat", 4))
    recipe = override(all_recipes()["supervised-mini"], ["batch_size=4", "epochs=1"])
    with pytest.raises(PretrainError, match=r"000\.png lies in no folder; training with labels .* a folder of its own"):
        train(recipe, flat, tmp_path / "run", workers=0)
    one = open_images(write_images(tmp_path / "one", 4, classes=1))
    with pytest.raises(PretrainError, match="all images lie in the folder class0"):
        SupervisedConfig().build(Network()).prepare(one, tmp_path)
    with pytest.raises(PretrainError, match=r"call prepare\(source, folder\)"):
        SupervisedConfig().build(Network())(views_of([0]))


def test_the_card_says_that_labels_were_used(pictures: Path, tmp_path: Path) -> None:
    small = ["batch_size=4", "epochs=1", "method.view_size=32", "schedule.warmup_epochs=0"]
    run = train(override(all_recipes()["supervised-mini"], small), open_images(pictures), tmp_path / "run", workers=0)
    card = json.loads((export(run) / "card.json").read_text())
    assert card["pretraining"]["labels"] == "classes of images (their folders)"
    assert card["method"] == "Supervised"


def test_the_papers_recipe() -> None:
    recipe = all_recipes()["supervised-imagenet-90ep"]
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.lr) == (90, 256, 0.1)
    assert isinstance(recipe.schedule, StepSchedule)
    assert [recipe.schedule.factor(epoch, 1, 90) for epoch in (0, 29, 30, 60, 80)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.001]
    )
