"""The segmentation protocols of MoCo's paper and of R2O: as built at full size, their rates, and small runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from augmented_voc import with_train_aug
from reduced_segmentation import DILATION_6, reduced
from short_protocols import checkpoint, reference
from torch import nn
from training_plans import plan_of

from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import build_model, resolve
from bench.openmmlab.runner import run_transfer
from bench.protocols import load_protocol
from pretrain.exported import read_exported

prepare_openmmlab()

VOC_MOCO, CITY_MOCO, VOC_R2O, CITY_R2O = DILATION_6


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated data with the list train_aug."""
    root = with_train_aug(tiny_data, tmp_path_factory.mktemp("paper") / "data")
    (root / "cityscapes").symlink_to(tiny_data / "cityscapes")
    return root


@pytest.mark.parametrize(
    ("protocol_id", "crop", "classes", "aligned", "third", "dropped"),
    [
        (VOC_MOCO, 513, 21, True, 0, 0.0),
        (CITY_MOCO, 769, 19, True, 0, 0.0),
        (VOC_R2O, 513, 21, False, 1, 0.1),
        (CITY_R2O, 769, 19, True, 0, 0.1),
    ],
)
def test_what_is_built_at_full_size(
    protocol_id: str, crop: int, classes: int, aligned: bool, third: int, dropped: float, backbone: Path
) -> None:
    """Shapes, parameters and settings of cards S2 and S3; tensors of the meta device have no values."""
    protocol, exported = load_protocol(protocol_id), read_exported(backbone)
    plan = plan_of(protocol)
    model = build_model(resolve(protocol, exported.card, Path("/data")), dict(exported.tensors), seed=0)
    guards.check_segmenter(model, plan)
    guards.check_trained(model.train())
    assert [
        [block.conv1.dilation[0] for block in layer] for layer in (model.backbone.layer3, model.backbone.layer4)
    ] == [
        [1, 1],
        [1, 2],
    ]
    heads = [(model.decode_head, 512, third)]
    if protocol_id == VOC_R2O:
        heads.append((model.auxiliary_head, 256, 0))
        assert (model.auxiliary_head.loss_decode.loss_weight, plan.auxiliary_weight) == (0.2, 0.2)
    else:
        assert not model.with_auxiliary_head and plan.auxiliary_weight is None
    for head, channels, joined in heads:
        convolutions = 9 * 256 * (channels + 256 + joined * (channels + 256)) + (2 + joined) * 2 * 256
        assert sum(parameter.numel() for parameter in head.parameters()) == convolutions + 257 * classes
        assert [one.conv.dilation for one in head.convs] == [(6, 6)] * 2 and head.align_corners == aligned
        assert (0.0 if head.dropout is None else head.dropout.p) == dropped
    cells = -(-crop // 16)
    maps = model.to("meta").extract_feat(torch.empty(2, 3, crop, crop, device="meta"))
    assert model.decode_head(maps).shape == (2, classes, cells, cells)


@pytest.mark.parametrize(
    ("protocol_id", "peak", "iterations", "milestones"),
    [
        (VOC_MOCO, 0.003, 30_000, (21_000, 27_000)),
        (CITY_MOCO, 0.01, 90_000, (63_000, 81_000)),
        (VOC_R2O, 0.01, 30_000, (21_000, 27_000)),
        (CITY_R2O, 0.04, 160 * 186, (112 * 186, 144 * 186)),
    ],
)
def test_rates_and_decay(protocol_id: str, peak: float, iterations: int, milestones: tuple[int, int]) -> None:
    """No warm-up, a tenth from each milestone on, and weight decay of every parameter, norms among them."""
    from mmengine.registry import PARAM_SCHEDULERS

    protocol = load_protocol(protocol_id)
    plan = plan_of(protocol)
    falling = {"type": "MultiStepLR", "milestones": list(milestones), "gamma": 0.1, "by_epoch": False}
    assert protocol.config["param_scheduler"] == [falling | {"begin": 0, "end": iterations}]
    assert plan.final_learning_rate == pytest.approx(peak / 100)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=plan.learning_rate)
    (scheduler,) = [PARAM_SCHEDULERS.build({**s, "optimizer": optimizer}) for s in protocol.config["param_scheduler"]]
    guards.check_schedule(iterations, optimizer, [scheduler], plan)
    assert plan.batch_size == protocol.config["train_dataloader"]["batch_size"] == 16
    assert protocol.config["optim_wrapper"] == {
        "type": "OptimWrapper",
        "optimizer": {"type": "SGD", "lr": peak, "momentum": 0.9, "weight_decay": plan.norm_weight_decay},
    }
    assert plan.norm_weight_decay == 0.0001


def test_a_random_scale_starts_from_the_images_own_size() -> None:
    from mmengine.registry import TRANSFORMS

    scale = TRANSFORMS.build({"type": "RandomScale", "ratios": (0.5, 2.0)})
    image = np.zeros((40, 60, 3), np.uint8)
    labels = np.repeat(np.arange(40, dtype=np.uint8)[:, None], 60, axis=1)
    np.random.seed(0)
    drawn = np.random.uniform(0.5, 2.0, 20)
    np.random.seed(0)
    for ratio in drawn:
        found = scale({"img": image, "gt_seg_map": labels, "seg_fields": ["gt_seg_map"]})
        height, width = found["img"].shape[:2]
        assert found["gt_seg_map"].shape == (height, width)
        factor = min(int(40 * ratio) / 40, int(60 * ratio) / 60)  # no side is longer than the ratio says
        assert (height, width) == (int(40 * factor + 0.5), int(60 * factor + 0.5))
        assert set(np.unique(found["gt_seg_map"])) <= set(range(40))  # nearest: no new labels
    assert drawn.min() < 0.7 and drawn.max() > 1.7


@pytest.mark.parametrize(
    ("protocol_id", "most", "tested"),
    [(VOC_MOCO, 1, None), (CITY_MOCO, 1, None), (VOC_R2O, 0.99, None), (CITY_R2O, 0.99, (2049, 1025))],
)
def test_pipelines(protocol_id: str, most: float, tested: tuple[int, int] | None) -> None:
    config = load_protocol(protocol_id).config
    training, testing = (
        {step["type"]: step for step in config[f"{name}_dataloader"]["dataset"]["pipeline"]}
        for name in ("train", "test")
    )
    assert training["RandomCrop"]["cat_max_ratio"] == most and "PhotoMetricDistortion" not in training
    assert training["RandomCrop"]["crop_size"] == config["model"]["data_preprocessor"]["size"]
    assert ("Resize" in testing, testing.get("Resize", {}).get("scale")) == (tested is not None, tested)
    assert ("RandomScale" in training) == (tested is None)
    assert config["model"]["test_cfg"] == {"mode": "whole"}


@pytest.mark.slow
@pytest.mark.parametrize("protocol_id", DILATION_6)
def test_a_small_run_is_whole(protocol_id: str, data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol = reduced(protocol_id, crop=65, iterations=3)
    result = run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / "run")
    report: Any = result.training
    assert result.status == "finished" and set(result.metrics) == {"mIoU", "mAcc", "aAcc"}
    assert (report.executed_iterations, report.images_seen, report.frozen_parameters) == (3, 6, 0)
    assert report.backbone_tensors == 100
