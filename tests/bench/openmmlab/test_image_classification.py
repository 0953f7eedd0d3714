"""Fine-tuning for whole images: steps against torchvision, the loss against a plain computation, rates, and runs."""

from __future__ import annotations

import copy
import dataclasses
from csv import DictReader
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from classified import CLASSES, VAL, build, classified_folders, loaded, small
from killing import killed_at
from PIL import Image
from short_protocols import checkpoint, reference
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torchvision.transforms import functional as published
from torchvision.transforms import transforms
from training_plans import plan_of

from bench.datasets.classified import classified_images
from bench.datasets.shares import LABELLED, take_share, take_share_of_each
from bench.errors import BenchError
from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import resolve
from bench.openmmlab.checkpoints import CHECKPOINT
from bench.openmmlab.operations import count_operations
from bench.openmmlab.runner import evaluate_stored, run_transfer
from bench.openmmlab.stored_weights import WEIGHTS
from bench.probes.kinds.image_classifier import chosen_images
from bench.protocols import load_protocol, with_batch
from pretrain.exported import read_exported

prepare_openmmlab()
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import PARAM_SCHEDULERS, TRANSFORMS  # noqa: E402

from bench.openmmlab.classification import ClassificationMetric  # noqa: E402

MINI = "mini_in1k_finetune_p10"
SETTINGS = {
    # backbone, head and weight decay of the papers' code; iterations of an epoch; where the head starts
    "paper_in1pct_finetune_swav": (0.02, 5.0, 0.0, 51, None),
    "paper_in10pct_finetune_swav": (0.01, 0.2, 0.0, 501, None),
    "paper_in1pct_finetune_openselfsup": (0.01, 1.0, 0.0005, 51, 0.01),
    "paper_in10pct_finetune_openselfsup": (0.01, 1.0, 0.0001, 501, 0.01),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classified_folders(tmp_path_factory.mktemp("images") / "data")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (517, 511), (256, 256), (90, 640)])
def test_evaluation_sees_what_torchvision_gives(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), np.uint8)
    found = TRANSFORMS.build({"type": "CentralSquare", "side": 224}).transform({"img": pixels})
    expected = transforms.CenterCrop(224)(transforms.Resize(256)(Image.fromarray(pixels)))
    np.testing.assert_array_equal(found["img"], np.asarray(expected))
    assert found["img_shape"] == (224, 224)


def test_random_squares_are_spread_as_torchvisions() -> None:
    """Smooth images whose first two channels are the column and row tell from where a square was taken."""
    rows, columns = np.mgrid[:120, :180]
    pixels = np.stack([columns, rows, np.zeros_like(rows)], 2).astype(np.uint8)
    step = TRANSFORMS.build({"type": "RandomSquare", "side": 32})
    np.random.seed(0)
    torch.manual_seed(0)
    theirs = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip()])
    found = measured([step.transform({"img": pixels})["img"] for _ in range(600)])
    expected = measured([np.asarray(theirs(Image.fromarray(pixels))) for _ in range(600)])
    for own, their in zip(found.T, expected.T, strict=True):  # 3.5 standard errors of the difference
        assert abs(own.mean() - their.mean()) < 3.5 * np.hypot(own.std(), their.std()) / 600**0.5
        assert abs(own.std() / their.std() - 1) < 0.15


def measured(squares: list[Any]) -> Any:
    """Whether flipped, area, ratio of the sides, and center of each (n, 5)."""
    rows = []
    for square in np.stack(squares).astype(float):
        (left, top), (right, bottom) = square[0, 0, :2], square[-1, -1, :2]
        width, height = abs(right - left), bottom - top
        rows.append((left > right, width * height, width / height, left + right, top + bottom))
    return np.array(rows, float)


def test_draws_follow_the_seed_and_the_crop_is_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    step = TRANSFORMS.build({"type": "RandomSquare", "side": 32})
    found = []
    for seed in (3, 3, 4):
        np.random.seed(seed)
        found.append(step.transform({"img": pixels})["img"])
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
    monkeypatch.setattr("bench.openmmlab.classification.draw_box", lambda *_: (11, 7, 50, 41))
    square = step.transform({"img": pixels})["img"]
    one = published.resized_crop(Image.fromarray(pixels), 7, 11, 41, 50, [32, 32])
    assert any(np.array_equal(square, np.asarray(way)) for way in (one, published.hflip(one)))


def test_the_loss_and_its_gradients_are_those_of_a_plain_computation(data: Path, backbone: Path) -> None:
    model, config = build(small(MINI), data, backbone)
    dataset = config["train_dataloader"]["dataset"]
    samples = loaded(dataset)
    batch = {
        "inputs": [sample["inputs"] for sample in samples], "data_samples": [s["data_samples"] for s in samples],
    }  # fmt: skip
    model.eval()
    given = model.data_preprocessor(copy.deepcopy(batch), True)
    card = read_exported(backbone).card
    pixels = np.stack([sample["inputs"].numpy()[::-1] for sample in samples]) / 255  # stored as BGR
    x = (pixels - np.array(card.mean)[:, None, None]) / np.array(card.std)[:, None, None]
    np.testing.assert_allclose(given["inputs"].numpy(), x, atol=1e-5)
    (loss,) = model(**given, mode="loss").values()
    loss.backward()
    cells = model.backbone(given["inputs"])[-1].detach().double().numpy()
    vectors = cells.reshape(*cells.shape[:2], -1).mean(2)
    weight, bias = (p.detach().double().numpy() for p in (model.head.weight, model.head.bias))
    scores = vectors @ weight.T + bias
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    labels = np.array([sample["data_samples"].label for sample in samples])
    assert loss.item() == pytest.approx(-np.log(chances[np.arange(len(labels)), labels]).mean(), rel=1e-5)
    error = (chances - np.eye(CLASSES)[labels]) / len(labels)
    np.testing.assert_allclose(model.head.weight.grad, error.T @ vectors, atol=1e-5)
    np.testing.assert_allclose(model.head.bias.grad, error.sum(0), atol=1e-6)
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.backbone.parameters())
    for sample, own in zip(model(**given, mode="predict"), scores, strict=True):
        np.testing.assert_allclose(sample.scores.detach(), own, atol=1e-4)


def two_groups(rate: float, head_rate: float) -> torch.optim.SGD:
    trunk, head = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    return torch.optim.SGD([{"params": [trunk]}, {"params": [head], "lr": head_rate}], lr=rate)


@pytest.mark.parametrize("protocol_id", SETTINGS)
def test_settings_are_the_authors(protocol_id: str, data: Path, backbone: Path) -> None:
    """Rates in each epoch are those of PyTorch's own schedule, which the authors' code steps after each epoch."""
    rate, head_rate, decay, steps, std = SETTINGS[protocol_id]
    protocol = load_protocol(protocol_id)
    plan = plan_of(protocol)
    dataset = {"1": "imagenet-1percent", "10": "imagenet-10percent"}[
        protocol_id.split("pct")[0].removeprefix("paper_in")
    ]
    assert (protocol.dataset, plan.batch_size, plan.iterations) == (dataset, 256, 20 * steps)
    assert steps == {"imagenet-1percent": -(-12_811 // 256), "imagenet-10percent": -(-128_116 // 256)}[dataset]
    assert [protocol.config[f"{part}_dataloader"]["dataset"]["part"] for part in ("train", "test")] == ["train", "val"]
    model, config = build(small(protocol_id), data, backbone)
    optimizer = build_optim_wrapper(model, ConfigDict(protocol.config["optim_wrapper"])).optimizer
    guards.check_head_rate(model, optimizer, plan)
    guards.check_weight_decay(model, optimizer, plan)
    assert {(g["momentum"], g["weight_decay"]) for g in optimizer.param_groups} == {(0.9, decay)}
    ours, theirs = two_groups(rate, head_rate), two_groups(rate, head_rate)
    (schedule,) = [PARAM_SCHEDULERS.build({**s, "optimizer": ours}) for s in protocol.config["param_scheduler"]]
    guards.check_schedule(plan.iterations, ours, [schedule], plan)
    their_schedule = torch.optim.lr_scheduler.MultiStepLR(theirs, [12, 16], gamma=0.2)
    rates = []
    for _ in range(20):
        expected = [group["lr"] for group in theirs.param_groups]
        for _ in range(steps):
            rates.append([group["lr"] for group in ours.param_groups])
            ours.step()
            schedule.step()
        np.testing.assert_allclose(rates[-steps:], [expected] * steps)
        theirs.step()
        their_schedule.step()
    guards.check_executed(len(rates), [one for one, _ in rates], plan, [own for _, own in rates])
    drawn, plain = model.head.weight.std().item(), 512**-0.5 / 3**0.5
    assert drawn == pytest.approx(plain if std is None else std, rel=0.1)
    assert bool(model.head.bias.any()) == (std is None)
    size = count_operations(model, {**config, **{k: protocol.config[k] for k in ("test_dataloader",)}})
    assert (size.height, size.width, size.head) == (224, 224, 2 * 512 * CLASSES)


def test_guards_see_rates_that_are_not_the_plans(data: Path, backbone: Path) -> None:
    protocol = small(MINI)
    plan = plan_of(protocol)
    model, _ = build(protocol, data, backbone)
    trunk, head = list(model.backbone.parameters()), list(model.head.parameters())

    def check(*groups: dict[str, Any]) -> None:
        optimizer = torch.optim.SGD(list(groups), lr=plan.learning_rate)
        guards.check_schedule(plan.iterations, optimizer, [], plan)
        guards.check_head_rate(model, optimizer, plan)

    rate = plan.head_learning_rate
    check({"params": trunk}, {"params": head, "lr": rate})
    with pytest.raises(BenchError, match=r"starts from learning rates \[.*\], the protocol plans .* and"):
        check({"params": trunk}, {"params": head})
    with pytest.raises(BenchError, match="begin with the backbone's and end with the head's"):
        check({"params": head, "lr": rate}, {"params": trunk})
    with pytest.raises(BenchError, match="parameters of the backbone start from learning rate"):
        check({"params": trunk[:5]}, {"params": trunk[5:], "lr": rate}, {"params": head, "lr": rate})
    with pytest.raises(BenchError, match="parameters of the head start from learning rate"):
        check({"params": trunk}, {"params": head[:1]}, {"params": head[1:], "lr": rate})
    good = [plan.learning_rate, plan.final_learning_rate]
    cut = dataclasses.replace(plan, iterations=2)
    guards.check_executed(2, good, cut, [rate * value / plan.learning_rate for value in good])
    with pytest.raises(BenchError, match="the peak head learning rate was"):
        guards.check_executed(2, good, cut, good)
    with pytest.raises(BenchError, match="the last head learning rate was"):
        guards.check_executed(2, good, cut, [rate, rate])


def test_guards_see_a_backbone_that_was_not_trained(data: Path, backbone: Path) -> None:
    model, _ = build(small(MINI), data, backbone)
    tensors = dict(read_exported(backbone).tensors)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(BenchError, match=r"was trained, but 60 of its 60 parameters are still the checkpoint's, first"):
        guards.check_changed(model.backbone, tensors, optimizer)
    model(torch.rand(2, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    guards.check_changed(model.backbone, tensors, optimizer)
    with torch.no_grad():
        model.backbone.bn1.weight.copy_(tensors["bn1.weight"])
    guards.check_changed(model.backbone, tensors, optimizer)  # its steps may have been lost in rounding
    with torch.no_grad():
        model.backbone.layer1[0].conv1.weight.copy_(tensors["layer1.0.conv1.weight"])
    with pytest.raises(BenchError, match=r"but 1 of its 60 parameters .*, first layer1\.0\.conv1\.weight"):
        guards.check_changed(model.backbone, tensors, optimizer)


def test_labels_are_a_share_of_each_class_and_another_with_each_seed(data: Path, backbone: Path) -> None:
    from mmengine.registry import DATASETS

    images = classified_images(data, "imagenet", "train")
    lists = []
    for seed in range(3):
        card = read_exported(backbone).card
        config = resolve(load_protocol(MINI), card, data, seed=seed)["train_dataloader"]["dataset"]
        dataset = DATASETS.build(ConfigDict(config))
        dataset.full_init()
        guards.check_labels(dataset, plan_of(load_protocol(MINI)), seed)
        with pytest.raises(BenchError, match="the protocol plans 10% of 140"):
            guards.check_labels(dataset, plan_of(load_protocol(MINI)), seed + 1)
        groups = [images.classes[label] for label in images.labels]
        by_class = [
            [name for name, group in zip(images.names, groups, strict=True) if group == own] for own in images.classes
        ]
        assert sorted(dataset.taken) == sorted(own[i] for own in by_class for i in take_share(own, 0.1, seed))
        assert len(dataset) == 2 * CLASSES
        lists.append(dataset.taken)
    assert lists[0] != lists[1] != lists[2]
    frozen: Any = load_protocol("frozen_in1k_linear_p10").plan
    assert lists[0] == [images.names[i] for i in chosen_images(frozen, images)]
    assert take_share_of_each(["a", "b", "c"], ["", "", ""], 0.7) == take_share(["a", "b", "c"], 0.7)


def test_values_are_scikit_learns(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(200, 9)).astype(np.float32), np.arange(200) % 9
    scores[np.arange(200), labels] += 1
    metric = ClassificationMetric(dump=str(tmp_path))
    samples = [
        {"name": f"{i}", "label": int(label), "scores": torch.from_numpy(own)}
        for i, (own, label) in enumerate(zip(scores, labels, strict=True))
    ]
    metric.process(None, samples)
    found = metric.evaluate(200)
    expected = {f"top-{k}": 100 * top_k_accuracy_score(labels, scores, k=k) for k in (1, 5)}
    expected["class accuracy"] = 100 * balanced_accuracy_score(labels, scores.argmax(1))
    assert found == pytest.approx(expected)
    kept = np.load(tmp_path / "counts.npz")
    assert 100 * (kept["labels"] == kept["predicted"]).mean() == pytest.approx(found["top-1"])
    metric.process(None, [*samples, samples[0]])
    with pytest.raises(BenchError, match="an image was evaluated twice"):
        metric.evaluate(201)


def test_a_smaller_batch_has_smaller_rates_of_both() -> None:
    own, cut = load_protocol("paper_in1pct_finetune_swav"), with_batch(load_protocol("paper_in1pct_finetune_swav"), 64)
    assert plan_of(cut).head_learning_rate == 5 / 4 and plan_of(cut).learning_rate == 0.02 / 4
    assert plan_of(cut).iterations == 4 * plan_of(own).iterations
    assert cut.config["optim_wrapper"]["paramwise_cfg"] == own.config["optim_wrapper"]["paramwise_cfg"]


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16", "mobilenetv2_100"])
def test_the_last_map_of_any_network_is_read(architecture: str, data: Path, backbone: Path) -> None:
    model, config = build(small(MINI), data, backbone, architecture)
    assert model(torch.rand(2, 3, 96, 96)).shape == (2, CLASSES)
    assert (count_operations(model, config).head or 0) == 2 * model.head.weight.numel()


def test_a_run_that_was_killed_ends_with_the_bits_of_one_that_was_not(
    data: Path, backbone: Path, tmp_path: Path
) -> None:
    protocol = small(MINI, iterations=3)
    inputs = (protocol, backbone, data, reference(protocol).model_copy(update={"val_images": VAL * CLASSES}), 1)
    whole: Any = run_transfer(*inputs, tmp_path / "whole")
    with killed_at(3):
        run_transfer(*inputs, tmp_path / "killed", checkpoint_seconds=0.0)
    assert (tmp_path / "killed" / CHECKPOINT).is_file()
    continued: Any = run_transfer(*inputs, tmp_path / "killed", checkpoint_seconds=0.0)
    assert continued.metrics == whole.metrics and whole.metrics.keys() == {"top-1", "top-5", "class accuracy"}
    assert (
        continued.outputs == whole.outputs and {WEIGHTS, LABELLED, "losses.csv", "counts.npz"} <= whole.outputs.keys()
    )
    plan, report = plan_of(protocol), whole.training
    assert report == continued.training
    assert (report.executed_iterations, report.images_seen, report.frozen_parameters) == (3, 12, 0)
    assert report.learning_rate == plan.learning_rate
    logged = list(DictReader((tmp_path / "whole" / "losses.csv").open()))
    factors = {float(line["head_learning_rate"]) / float(line["learning_rate"]) for line in logged}
    assert factors == {plan.head_learning_rate / plan.learning_rate} and len(logged) == 3
    assert report.head_parameters == (512 + 1) * CLASSES
    kept = safetensors.torch.load_file(tmp_path / "whole" / WEIGHTS)
    given = read_exported(backbone).tensors
    assert report.backbone_tensors == sum(not name.endswith("num_batches_tracked") for name in given)
    learned = {name for name in given if "num_batches" not in name}
    assert all(
        not torch.equal(kept[f"backbone.{name}"], given[name].to(kept[f"backbone.{name}"].dtype)) for name in learned
    )
    assert evaluate_stored(protocol, backbone, data, tmp_path / "whole", tmp_path / "again") == whole.metrics


def test_the_published_list_is_trained_on(data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol = small("paper_in1pct_finetune_swav", iterations=3)
    result: Any = run_transfer(
        protocol, backbone, data, reference(protocol).model_copy(update={"val_images": VAL * CLASSES}), 0, tmp_path
    )
    assert result.status == "finished"
    assert not (tmp_path / LABELLED).exists()  # the list is the data set's, of which the fingerprint tells
