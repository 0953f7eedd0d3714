"""Parts of the training images: what a sweep holds out and evaluates, and what few labels are."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from short_protocols import changed, checkpoint, reference
from training_plans import plan_of
from voc_0712 import with_voc2007

from bench.datasets.shares import hold_out, take_share
from bench.errors import BenchError
from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import resolve
from bench.openmmlab.runner import run_transfer
from bench.protocols import Protocol, load_protocol, trials
from leaderboard.records import Card
from leaderboard.shares import SHARES, read_shares
from pretrain.exported import read_card

prepare_openmmlab()

from mmengine import DefaultScope  # noqa: E402
from mmengine.registry import DATASETS  # noqa: E402

VOC, COCO, CITY = "fair_voc0712_det_c4_24k", "fair_mini_coco_mrcnn_fpn", "fair_mini_city_seg_fcn"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def card(folder: Path) -> Card:
    return read_card(folder)


@pytest.fixture(scope="module")
def both_years(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_voc2007(tiny_data, tmp_path_factory.mktemp("held-out") / "data")


def trial(name: str) -> Protocol:
    return trials(load_protocol(name))[0]


def built(config: dict[str, Any], loader: str) -> Any:
    with DefaultScope.overwrite_default_scope(config["default_scope"]):
        return DATASETS.build(copy.deepcopy(config[loader]["dataset"]))


def parts(dataset: Any) -> list[Any]:
    return list(getattr(dataset, "datasets", [dataset]))


@pytest.mark.parametrize("name", [VOC, COCO, CITY])
def test_no_image_is_trained_on_and_evaluated(name: str, card: Card, tiny_data: Path, both_years: Path) -> None:
    data = both_years if name == VOC else tiny_data
    protocol = trial(name)
    config = resolve(protocol, card, data)
    trained, evaluated = built(config, "train_dataloader"), built(config, "test_dataloader")
    assert len(parts(trained)) == len(parts(evaluated)) == (2 if name == VOC else 1)
    for one, other in zip(parts(trained), parts(evaluated), strict=True):
        assert one.listed == other.listed, "both are of the training images"
        held = set(hold_out(one.units, plan_of(protocol).held_out))
        assert other.taken == [image for place, image in enumerate(one.listed) if place in held]
        assert one.taken == [image for place, image in enumerate(one.listed) if place not in held]
        assert one.taken and len(other) == len(other.taken) > 0, "of those held out, none is left out"
    guards.check_labels(trained, plan_of(protocol), 0)
    with pytest.raises(BenchError, match="the built data set has"):
        guards.check_labels(built(resolve(load_protocol(name), card, data), "train_dataloader"), plan_of(protocol), 0)
    if name == CITY:
        assert set(one.units) == {"arden", "brookvale"}, "a city is held out as a whole"


@pytest.mark.parametrize("name", ["paper_voc0712_det_fpn_p25", "paper_city_seg_fcn_d8_p50"])
def test_few_labels_are_a_share_of_each_list_of_the_seeds_fold(
    name: str, card: Card, tiny_data: Path, both_years: Path
) -> None:
    protocol, data = load_protocol(name), both_years if "voc" in name else tiny_data
    plan = plan_of(protocol)
    for seed in (0, 3):
        dataset = built(resolve(protocol, card, data, seed=seed), "train_dataloader")
        guards.check_labels(dataset, plan, seed)
        for part in parts(dataset):
            taken = take_share(part.listed, plan.labels, seed)
            assert part.taken == [part.listed[place] for place in taken] != part.listed


def test_a_run_is_evaluated_on_what_is_held_out(folder: Path, tiny_data: Path, tmp_path: Path) -> None:
    """COCO's metric reads the ground truth itself: that of the training images that are held out."""

    def cut(config: dict[str, Any]) -> None:
        plan = config["protocol"]["plan"]
        plan |= {"batch_size": 2, "iterations": 2, "final_learning_rate": plan["learning_rate"]}
        config["train_dataloader"]["batch_size"] = 2
        config["train_cfg"]["max_iters"] = 2
        config["param_scheduler"] = [{"type": "ConstantLR", "factor": 1.0, "by_epoch": False}]

    protocol = changed(trial(COCO), cut)
    torch.set_num_threads(1)
    result = run_transfer(protocol, folder, tiny_data, reference(protocol), 1000, tmp_path)
    assert result.status == "finished"
    listed = json.loads((tiny_data / "coco/annotations/instances_train2017.json").read_text())["images"]
    names = {image["file_name"]: str(image["id"]) for image in listed}
    held = {names[list(names)[place]] for place in hold_out(list(names), plan_of(protocol).held_out)}
    assert set(read_shares(tmp_path / SHARES).names) == held
    assert (result.dataset.train_images, result.dataset.val_images) == (len(names) - len(held), len(held))
    trained = (tmp_path / "labelled.txt").read_text().split()
    assert {names[name] for name in trained} == set(names.values()) - held
