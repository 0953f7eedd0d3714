"""LVIS's protocol of track paper: how often images are drawn, what is built, and a small run."""

import math
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reduced_protocols import reduced
from short_protocols import changed, checkpoint, reference
from tiny_lvis import CLASSES, with_lvis

from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import build_model, checkpoint_part, prove_backbone, resolve
from bench.openmmlab.runner import evaluate_stored, run_transfer
from bench.protocols import load_protocol
from leaderboard.shares import SHARES, read_shares
from pretrain.exported import read_exported

prepare_openmmlab()
from bench.openmmlab.repeats import RepeatFactorSampler, repeat_factors  # noqa: E402

LVIS, FAMILY_A = "paper_lvis_mrcnn_fpn_2x", "paper_coco_mrcnn_fpn_2x_a"


class Listed:
    """A data set that knows its images' classes."""

    def __init__(self, classes: list[set[int]]) -> None:
        self.classes = classes

    def classes_of_images(self) -> list[set[int]]:
        return self.classes


@settings(max_examples=40, deadline=None)
@given(
    classes=st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=12), threshold=st.sampled_from([0.001, 0.4, 1])
)
def test_factors_are_the_formula(classes: list[set[int]], threshold: float) -> None:
    for found, of_image in zip(repeat_factors(classes, threshold).tolist(), classes, strict=True):
        factors = [1.0]
        for label in of_image:
            share = sum(label in other for other in classes) / len(classes)
            factors.append(max(1.0, math.sqrt(threshold / share)))
        assert found == pytest.approx(max(factors), rel=1e-12)


def test_images_are_drawn_as_often_as_their_factors_say() -> None:
    """One image of 16 has a class of its own; with a threshold of 1/4 it is drawn twice, one of two more often."""
    classes: list[set[int]] = [{0}] * 13 + [{0, 1}, {2}, {2}]
    sampler = RepeatFactorSampler(Listed(classes), 0.25, seed=3)
    factors = [1.0] * 13 + [2.0, math.sqrt(2), math.sqrt(2)]
    assert sampler.factors.tolist() == pytest.approx(factors) and len(sampler) == 16
    epochs = 400
    drawn = Counter(islice(iter(sampler), int(epochs * sum(factors))))
    for image, factor in enumerate(factors):
        assert drawn[image] / epochs == pytest.approx(factor, abs=4 * 0.5 / math.sqrt(epochs))
    first = list(islice(iter(sampler), 15))
    assert len(set(first)) > 10 and first != sorted(first)  # shuffled, epoch by epoch


def test_the_stream_is_that_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that continues draws it again, and of two processes each takes every second image."""
    dataset = Listed([{0}, {0}, {1}, {0, 1, 2}])
    sampler = RepeatFactorSampler(dataset, 0.6, seed=5)
    whole = list(islice(iter(sampler), 40))
    assert whole == list(islice(iter(sampler), 40)) != list(islice(iter(RepeatFactorSampler(dataset, 0.6, 6)), 40))
    for rank in (0, 1):
        monkeypatch.setattr("bench.openmmlab.repeats.get_dist_info", lambda rank=rank: (rank, 2))
        assert list(islice(iter(sampler), 20)) == whole[rank::2]


def test_it_differs_from_family_a_in_what_its_file_says() -> None:
    """As VirTex's configuration differs from that of COCO."""
    ours, coco = (dict(load_protocol(name).config) for name in (LVIS, FAMILY_A))
    assert {key for key in ours if ours[key] != coco[key]} == {
        "protocol", "model", "train_dataloader", "test_dataloader", "test_evaluator"
    }  # fmt: skip
    model: Any = changed(load_protocol(LVIS), lambda config: None).config["model"]
    assert model["test_cfg"]["rcnn"] | {"score_thr": 0.05, "max_per_img": 100} == coco["model"]["test_cfg"]["rcnn"]
    assert (model["test_cfg"]["rcnn"]["score_thr"], model["test_cfg"]["rcnn"]["max_per_img"]) == (0.0001, 300)
    assert ours["train_dataloader"]["sampler"] == {"type": "RepeatFactorSampler", "threshold": 0.001}
    for loader in ("train_dataloader", "test_dataloader"):
        assert ours[loader]["dataset"]["pipeline"] == coco[loader]["dataset"]["pipeline"]
    model["test_cfg"]["rcnn"] = coco["model"]["test_cfg"]["rcnn"]
    for head in ("bbox_head", "mask_head"):
        assert model["roi_head"][head]["num_classes"] == CLASSES
        model["roi_head"][head]["num_classes"] = 80
    assert model == coco["model"]


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_lvis(tiny_data, tmp_path_factory.mktemp("lvis") / "data")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


def test_data_and_model_have_the_files_classes(data: Path, backbone: Path) -> None:
    from mmdet.registry import DATASETS
    from mmengine import DefaultScope

    exported = read_exported(backbone)
    config = resolve(load_protocol(LVIS), exported.card, data)
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(config["train_dataloader"]["dataset"])
    assert len(dataset.metainfo["classes"]) == CLASSES and len(dataset) == 8
    assert all(classes for classes in dataset.classes_of_images())
    assert Path(dataset.get_data_info(0)["img_path"]).is_file()
    model = build_model(config, dict(exported.tensors), seed=0)
    assert prove_backbone(checkpoint_part(model), dict(exported.tensors)) == 100
    assert model.roi_head.bbox_head.fc_cls.out_features == CLASSES + 1
    assert model.roi_head.mask_head.conv_logits.out_channels == CLASSES
    guards.check_trained(model.train())


@pytest.mark.slow
def test_a_small_run_is_whole(data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol = reduced(LVIS)
    result = run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / "run")
    assert (result.status, result.training.frozen_parameters, result.training.images_seen) == ("finished", 0, 10)
    assert {"segm_AP", "segm_APr", "segm_APf", "bbox_AP", "bbox_APc"} <= result.metrics.keys()
    shares = read_shares(tmp_path / "run" / SHARES)
    assert result.standard_errors.keys() == result.metrics.keys() == shares.metrics.keys()
    assert evaluate_stored(protocol, backbone, data, tmp_path / "run", tmp_path / "again") == result.metrics
