"""What is built is what card and protocol say; the ten rules of the protocol survey, each on the built model.

Rules 7 (a sweep of learning rates) and 10 (several tasks) concern tracks, not one model: see test_tracks.py.
"""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_protocols import DETECTION, IDS, SEGMENTATION, changed, checkpoint
from torch import nn

from bench.errors import BenchError
from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import build_model, compare_keys, load_backbone, prove_backbone, resolve
from bench.protocols import Protocol, load_protocol
from leaderboard.records import Card
from pretrain.exported import read_exported
from pretrain.nets.architectures import build_backbone

ROOT = Path("/data")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def opened(folder: Path) -> tuple[Card, dict[str, torch.Tensor]]:
    exported = read_exported(folder)
    return exported.card, dict(exported.tensors)


@pytest.fixture(scope="module", params=IDS)
def built(request: pytest.FixtureRequest, work: Path) -> tuple[Protocol, Card, Any]:
    """Each protocol with a ResNet-18."""
    protocol = load_protocol(request.param)
    card, tensors = opened(checkpoint(work))
    return protocol, card, build_model(resolve(protocol, card, ROOT), tensors, seed=0)


def build(protocol: Protocol, folder: Path, seed: int = 0) -> tuple[Card, Any]:
    card, tensors = opened(folder)
    return card, build_model(resolve(protocol, card, ROOT), tensors, seed)


# Rule 1: every backbone tensor comes from the checkpoint, and none is left over.


@pytest.mark.parametrize("protocol_id", IDS)
@pytest.mark.parametrize("architecture", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_rule_1_every_tensor_is_the_checkpoints(protocol_id: str, architecture: str, work: Path) -> None:
    if architecture in ("resnet34", "resnet101") and protocol_id != "mini_coco_mrcnn_fpn":
        pytest.skip("one protocol shows what resnet34 and resnet101 add")
    folder = checkpoint(work, architecture)
    card, tensors = opened(folder)
    model = build_model(resolve(load_protocol(protocol_id), card, ROOT), tensors, seed=0)
    assert prove_backbone(model.backbone, tensors) == sum("num_batches" not in name for name in tensors)
    assert sum(p.numel() for p in model.backbone.parameters()) == card.parameters


def test_rule_1_missing_left_over_and_misshapen_tensors_are_refused(work: Path) -> None:
    card, tensors = opened(checkpoint(work))
    config = resolve(load_protocol("mini_voc_seg_fcn"), card, ROOT)
    missing = {name: tensor for name, tensor in tensors.items() if name != "layer2.0.conv1.weight"}
    with pytest.raises(BenchError, match=r"1 not filled \(layer2.0.conv1.weight\)"):
        build_model(config, missing, seed=0)
    with pytest.raises(BenchError, match=r"1 left over \(fc.weight\)"):
        build_model(config, {**tensors, "fc.weight": torch.zeros(1)}, seed=0)
    with pytest.raises(BenchError, match=r"1 of another shape \(conv1.weight\)"):
        build_model(config, {**tensors, "conv1.weight": torch.zeros(64, 2, 7, 7)}, seed=0)


def test_rule_1_one_other_bit_is_found(work: Path) -> None:
    _, tensors = opened(checkpoint(work))
    _, model = build(load_protocol("mini_voc_seg_fcn"), checkpoint(work))
    with torch.no_grad():
        weight = model.backbone.layer3[1].conv2.weight
        weight[3, 2, 1, 0] = torch.nextafter(weight[3, 2, 1, 0], torch.tensor(9.0))
    with pytest.raises(BenchError, match=r"1 tensors differ, first layer3.1.conv2.weight"):
        prove_backbone(model.backbone, tensors)


def test_counters_of_batches_are_no_weights(work: Path) -> None:
    _, tensors = opened(checkpoint(work))
    backbone = build_backbone("resnet18")
    with_counters = {**tensors, "bn1.num_batches_tracked": torch.tensor(7)}
    load_backbone(backbone, with_counters)
    assert compare_keys(backbone, with_counters) == ([], [], [])


def test_the_backbone_computes_what_pretraining_computed(work: Path) -> None:
    """Same tensors are not enough: strides, paddings and order of layers must agree too."""
    images = torch.randn(2, 3, 64, 96)
    for architecture in ("resnet18", "resnet50"):
        folder = checkpoint(work, architecture)
        _, tensors = opened(folder)
        ours = build_backbone(architecture)
        load_backbone(ours, tensors)
        _, model = build(load_protocol("mini_voc_det_frcnn_fpn"), folder)
        model.eval()
        with torch.no_grad():
            expected = ours.eval().features(images)
            found = model.backbone(images)
        assert len(found) == len(expected) == 4
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


# Rule 2: the preprocessor of the built model.


def test_rule_2_preprocessor_is_the_cards(built: tuple[Protocol, Card, Any]) -> None:
    _, card, model = built
    guards.check_preprocessor(model.data_preprocessor, card)
    for other in (
        card.model_copy(update={"mean": (0.5, 0.5, 0.5)}),
        card.model_copy(update={"std": (0.225, 0.224, 0.229)}),
        card.model_copy(update={"color_order": "BGR"}),
    ):
        with pytest.raises(BenchError, match="the card says"):
            guards.check_preprocessor(model.data_preprocessor, other)


@pytest.mark.parametrize("mean", [(0.4914, 0.4822, 0.4465), (0.485, 0.456, 0.406), (0.0, 0.5, 0.99999)])
def test_rule_2_allows_for_single_precision(
    built: tuple[Protocol, Card, Any], mean: tuple[float, float, float]
) -> None:
    """255 times .4465 is 113.8575, which a float32 holds as a little less: both round to other thousandths."""
    _, card, model = built
    preprocessor = copy.deepcopy(model.data_preprocessor)
    preprocessor.mean = torch.tensor([255 * value for value in mean]).view(3, 1, 1)
    guards.check_preprocessor(preprocessor, card.model_copy(update={"mean": mean}))
    preprocessor.mean[2] += 0.01
    with pytest.raises(BenchError, match="normalises with mean"):
        guards.check_preprocessor(preprocessor, card.model_copy(update={"mean": mean}))


@pytest.mark.parametrize("protocol_id", IDS)
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_rule_2_pixels_arrive_as_the_card_says(protocol_id: str, order: str, tmp_path: Path) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    folder = checkpoint(tmp_path, color_order=order, mean=mean, std=std)
    _, model = build(load_protocol(protocol_id), folder)
    rgb = np.array([200, 100, 50], np.uint8)
    image = torch.from_numpy(np.broadcast_to(rgb[::-1][:, None, None], (3, 32, 32)).copy())  # as read: BGR
    given = model.data_preprocessor({"inputs": [image], "data_samples": [sample(protocol_id)]}, training=False)
    expected = (rgb if order == "RGB" else rgb[::-1]) / 255
    expected = (expected - mean) / std
    np.testing.assert_allclose(given["inputs"][0, :, 16, 16].numpy(), expected, rtol=1e-5)


def sample(protocol_id: str) -> Any:
    """A data sample without annotations."""
    if protocol_id in SEGMENTATION:
        from mmseg.structures import SegDataSample

        return SegDataSample(metainfo={"img_shape": (32, 32)})
    from mmdet.structures import DetDataSample

    return DetDataSample(metainfo={"img_shape": (32, 32)})


def test_images_smaller_than_the_crop_are_padded_with_the_mean_colour(work: Path) -> None:
    card, model = build(load_protocol("mini_voc_seg_fcn"), checkpoint(work))
    from mmengine.structures import PixelData

    one = sample("mini_voc_seg_fcn")
    one.gt_sem_seg = PixelData(data=torch.zeros(1, 32, 32, dtype=torch.long))
    given = model.data_preprocessor(
        {"inputs": [torch.full((3, 32, 32), 255, dtype=torch.uint8)], "data_samples": [one]}, training=True
    )
    padding = given["inputs"][0, :, 32:, :]
    assert padding.numel() and not padding.any()
    assert (given["data_samples"][0].gt_sem_seg.data[0, 32:] == 255).all()
    assert card.mean != (0, 0, 0)


def test_a_top_level_preprocessor_cannot_pass_unnoticed(work: Path) -> None:
    """The runner of mmengine ignores it when the model has one: the guard sees the one that is used."""

    def use_caffe(config: dict[str, Any]) -> None:
        config["model"]["data_preprocessor"] |= {"mean": [103.53, 116.28, 123.675], "std": [1, 1, 1]}
        config["model"]["data_preprocessor"]["bgr_to_rgb"] = False

    card, model = build(changed(load_protocol("mini_voc_det_frcnn_fpn"), use_caffe), checkpoint(work))
    with pytest.raises(BenchError, match="the card says"):
        guards.check_preprocessor(model.data_preprocessor, card)


# Rule 3: all layers trained, batch statistics in training.


def test_rule_3_nothing_frozen(built: tuple[Protocol, Card, Any]) -> None:
    _, card, model = built
    model.train()
    guards.check_backbone(model.backbone, card)
    assert all(parameter.requires_grad for parameter in model.parameters())
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(type(norm) is nn.BatchNorm2d and norm.training for norm in norms)


@pytest.mark.parametrize("protocol_id", ["mini_voc_det_frcnn_fpn", "mini_city_seg_fcn"])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"frozen_stages": 0}, "frozen, first conv1.weight"),
        ({"frozen_stages": 1}, "frozen"),
        ({"norm_eval": True}, "fixed statistics"),
        ({"norm_cfg": {"type": "BN", "requires_grad": False}}, "frozen, first bn1.weight"),
    ],
)
def test_rule_3_stock_settings_are_refused(protocol_id: str, setting: dict[str, Any], message: str, work: Path) -> None:
    protocol = changed(load_protocol(protocol_id), lambda config: config["model"]["backbone"].update(setting))
    card, model = build(protocol, checkpoint(work))
    model.train()
    with pytest.raises(BenchError, match=message):
        guards.check_backbone(model.backbone, card)


def test_rule_3_several_processes_synchronise(work: Path) -> None:
    card, tensors = opened(checkpoint(work))
    protocol = load_protocol("mini_voc_det_frcnn_fpn")
    model = build_model(resolve(protocol, card, ROOT, world=2), tensors, seed=0).train()
    guards.check_backbone(model.backbone, card, world=2)
    alone = build_model(resolve(protocol, card, ROOT), tensors, seed=0).train()
    with pytest.raises(BenchError, match="not synchronised"):
        guards.check_backbone(alone.backbone, card, world=2)


def test_the_stem_is_the_cards(work: Path) -> None:
    card, _ = opened(checkpoint(work))
    prepare_openmmlab()
    from mmseg.models.backbones import ResNet, ResNetV1c

    with pytest.raises(BenchError, match="stem"):
        guards.check_backbone(ResNetV1c(depth=18, norm_eval=False), card)
    with pytest.raises(BenchError, match="caffe style"):
        guards.check_backbone(ResNet(depth=50, style="caffe", norm_eval=False), card)


def test_a_deep_stem_does_not_load(work: Path) -> None:
    protocol = changed(load_protocol("mini_voc_seg_fcn"), lambda c: c["model"]["backbone"].update(type="ResNetV1c"))
    with pytest.raises(BenchError, match=r"not filled \(stem"):
        build(protocol, checkpoint(work))


# Rule 4: one detector family.


@pytest.mark.parametrize("protocol_id", DETECTION)
def test_rule_4_detectors_are_of_family_a(protocol_id: str, work: Path) -> None:
    _, model = build(load_protocol(protocol_id), checkpoint(work))
    heads = list(model.roi_head.modules())
    assert not [module for module in heads if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert [type(layer) for layer in model.roi_head.bbox_head.shared_fcs] == [nn.Linear, nn.Linear]
    assert not model.roi_head.bbox_head.shared_convs
    assert all(type(conv.bn) is nn.BatchNorm2d for conv in model.neck.lateral_convs)


# Rule 5: the metrics.


@pytest.mark.parametrize(
    ("protocol_id", "name"),
    [
        ("mini_voc_det_frcnn_fpn", "VOCDetectionMetric"),
        ("mini_voc_seg_fcn", "SegmentationMetric"),
        ("mini_coco_mrcnn_fpn", "CocoDetectionMetric"),
        ("mini_city_seg_fcn", "SegmentationMetric"),
        ("mini_city_inst_mrcnn_fpn", "CityscapesInstanceMetric"),
    ],
)
def test_rule_5_metrics_are_ours(protocol_id: str, name: str) -> None:
    prepare_openmmlab()
    import mmdet.registry
    import mmseg.registry

    config = load_protocol(protocol_id).config
    assert config["test_evaluator"]["type"] == name
    registry = {"mmdet": mmdet.registry, "mmseg": mmseg.registry}[config["default_scope"]].METRICS
    assert registry.get(name).__module__ == "bench.openmmlab.metrics"


# Rule 6: weight decay of norm parameters.


def optimizer_of(protocol: Protocol, model: nn.Module) -> Any:
    from mmengine.config import ConfigDict
    from mmengine.optim import build_optim_wrapper

    return build_optim_wrapper(model, ConfigDict(protocol.config["optim_wrapper"])).optimizer


def test_rule_6_norm_decay_is_the_planned_one(built: tuple[Protocol, Card, Any]) -> None:
    protocol, _, model = built
    optimizer = optimizer_of(protocol, model)
    guards.check_weight_decay(model, optimizer, protocol.plan)
    decays = {float(group["weight_decay"]) for group in optimizer.param_groups}
    assert protocol.plan.norm_weight_decay == (0 if protocol.id in DETECTION else max(decays))
    other = dataclasses.replace(protocol.plan, norm_weight_decay=0.123)
    with pytest.raises(BenchError, match=r"0\.123"):
        guards.check_weight_decay(model, optimizer, other)


def test_rule_6_a_forgotten_parameter_is_found(work: Path) -> None:
    protocol = load_protocol("mini_voc_seg_fcn")
    _, model = build(protocol, checkpoint(work))
    parameters = [parameter for name, parameter in model.named_parameters() if name != "backbone.conv1.weight"]
    optimizer = torch.optim.SGD(parameters, lr=0.1, weight_decay=protocol.plan.norm_weight_decay)
    with pytest.raises(BenchError, match=r"backbone.conv1.weight is not in the optimizer"):
        guards.check_weight_decay(model, optimizer, protocol.plan)


# Rule 8: the final iteration alone. (Seeds: test_tracks.py; one evaluation: test_runner.py.)


@pytest.mark.parametrize("protocol_id", IDS)
def test_rule_8_nothing_is_selected_on_the_val_set(protocol_id: str) -> None:
    config = load_protocol(protocol_id).config
    assert not {"val_dataloader", "val_cfg", "val_evaluator", "default_hooks", "custom_hooks"} & set(config)


# Rule 9: heads start at random, the same for every checkpoint.


@pytest.mark.parametrize("protocol_id", IDS)
def test_rule_9_heads_depend_on_the_seed_alone(protocol_id: str, work: Path) -> None:
    protocol = load_protocol(protocol_id)

    def head(checkpoint_seed: int, seed: int) -> dict[str, torch.Tensor]:
        _, model = build(protocol, checkpoint(work, seed=checkpoint_seed), seed)
        state = model.state_dict()
        return {name: t for name, t in state.items() if not name.startswith("backbone.") and t.is_floating_point()}

    first, same, other = head(0, 0), head(1, 0), head(0, 1)
    assert all(torch.equal(first[name], same[name]) for name in first)
    drawn = [name for name in first if first[name].unique().numel() > 1]
    assert drawn and not any(torch.equal(first[name], other[name]) for name in drawn)


def test_rule_9_other_weights_are_refused(work: Path) -> None:
    _, model = build(load_protocol("mini_coco_mrcnn_fpn"), checkpoint(work))
    guards.check_no_other_weights(model, None)
    with pytest.raises(BenchError, match="load_from"):
        guards.check_no_other_weights(model, "mask_rcnn_coco.pth")
    model.neck.init_cfg = {"type": "Pretrained", "checkpoint": "neck.pth"}
    with pytest.raises(BenchError, match=r"neck is initialised from 'neck.pth'"):
        guards.check_no_other_weights(model, None)


# Batch and schedule.


class Loader:
    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.batch_sampler = batch_size, None


def test_effective_batch_is_the_planned_one() -> None:
    plan = load_protocol("mini_voc_seg_fcn").plan
    guards.check_batch(Loader(plan.batch_size), plan)
    guards.check_batch(Loader(plan.batch_size // 2), plan, world=2)
    with pytest.raises(BenchError, match="images per iteration"):
        guards.check_batch(Loader(plan.batch_size // 2), plan)


def test_a_batch_that_cannot_be_divided_is_refused(work: Path) -> None:
    card, _ = opened(checkpoint(work))
    with pytest.raises(BenchError, match="cannot be divided among 3"):
        resolve(load_protocol("mini_voc_seg_fcn"), card, ROOT, world=3)


def test_unknown_slots_are_refused(work: Path) -> None:
    card, _ = opened(checkpoint(work))
    protocol = changed(load_protocol("mini_voc_seg_fcn"), lambda c: c["model"].update(pretrained="card:weights"))
    with pytest.raises(BenchError, match=r"unknown slot 'card:weights'"):
        resolve(protocol, card, ROOT)


@pytest.mark.parametrize("protocol_id", IDS)
def test_no_slot_is_left(protocol_id: str, work: Path) -> None:
    card, _ = opened(checkpoint(work))
    text = repr(resolve(load_protocol(protocol_id), card, ROOT))
    assert "card:" not in text and "run:" not in text
    assert str(ROOT) in text


def rates(protocol: Protocol) -> list[float]:
    """The learning rate of every iteration, from the built optimizer and schedulers."""
    schedulers, optimizer = schedule(protocol)
    found = []
    for _ in range(protocol.config["train_cfg"]["max_iters"]):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


class TwoParts(nn.Module):
    """What an optimizer sees of a model: a backbone with a norm, a neck with another, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.neck = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.decode_head = nn.Sequential(nn.Conv2d(4, 2, 1))


def schedule(protocol: Protocol) -> tuple[list[Any], torch.optim.Optimizer]:
    prepare_openmmlab()
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import PARAM_SCHEDULERS

    optimizer = build_optim_wrapper(TwoParts(), copy.deepcopy(protocol.config["optim_wrapper"])).optimizer
    settings = protocol.config["param_scheduler"]
    return [PARAM_SCHEDULERS.build({**entry, "optimizer": optimizer}) for entry in settings], optimizer


@pytest.mark.parametrize("protocol_id", IDS)
def test_the_built_schedule_is_the_planned_one(protocol_id: str) -> None:
    protocol = load_protocol(protocol_id)
    schedulers, optimizer = schedule(protocol)
    guards.check_schedule(protocol.config["train_cfg"]["max_iters"], optimizer, schedulers, protocol.plan)
    found = rates(protocol)
    guards.check_executed(len(found), found, protocol.plan)
    for executed in (found[:-1], [*found, found[-1]]):
        with pytest.raises(BenchError, match="were executed"):
            guards.check_executed(len(executed), executed, protocol.plan)
    with pytest.raises(BenchError, match="last learning rate"):
        guards.check_executed(len(found), [*found[:-1], max(found)], protocol.plan)
    with pytest.raises(BenchError, match="peak learning rate"):
        guards.check_executed(len(found), [rate / 2 for rate in found], protocol.plan)


def test_milestones_that_are_never_reached_are_refused() -> None:
    def too_late(config: dict[str, Any]) -> None:
        steps = config["param_scheduler"][-1]
        steps["milestones"] = [steps["milestones"][0], config["train_cfg"]["max_iters"]]

    protocol = changed(load_protocol("mini_voc_det_frcnn_fpn"), too_late)
    schedulers, optimizer = schedule(protocol)
    with pytest.raises(BenchError, match="after the last one"):
        guards.check_schedule(protocol.plan.iterations, optimizer, schedulers, protocol.plan)


def test_other_lengths_and_rates_are_refused() -> None:
    protocol = load_protocol("mini_voc_det_frcnn_fpn")
    schedulers, optimizer = schedule(protocol)
    with pytest.raises(BenchError, match="iterations, the protocol plans"):
        guards.check_schedule(protocol.plan.iterations + 1, optimizer, schedulers, protocol.plan)
    other = dataclasses.replace(protocol.plan, learning_rate=protocol.plan.learning_rate * 2)
    with pytest.raises(BenchError, match="starts from learning rates"):
        guards.check_schedule(protocol.plan.iterations, optimizer, schedulers, other)


def test_a_rate_of_the_heads_leaves_the_norms_their_weight_decay() -> None:
    prepare_openmmlab()
    from mmengine.optim import build_optim_wrapper

    protocol, model = load_protocol("mini_voc_det_frcnn_fpn"), TwoParts()
    optimizer = build_optim_wrapper(model, copy.deepcopy(protocol.config["optim_wrapper"])).optimizer
    found = {id(group["params"][0]): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    by_name = {name: found[id(parameter)] for name, parameter in model.named_parameters()}
    assert isinstance(optimizer, torch.optim.AdamW)
    rate, decay = {"backbone": 0.0001, "neck": 0.001, "decode_head": 0.001}, {"0": 0.05, "1": 0.0}
    assert by_name == {name: (rate[name.split(".")[0]], decay[name.split(".")[1]]) for name in by_name}
    guards.check_head_rate(model, optimizer, protocol.plan)
    guards.check_weight_decay(model, optimizer, protocol.plan)
