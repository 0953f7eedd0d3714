"""What `pretrain` exports, `bench` evaluates: every architecture in the protocols, and the parts made for some."""

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from short_protocols import IDS, SEGMENTATION, changed, checkpoint, reference, short
from torch import nn
from training_plans import plan_of

from bench.checkpoints.layouts import find_candidates
from bench.datasets import generate
from bench.errors import BenchError
from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import build_model, compare_keys, prove_backbone, resolve
from bench.openmmlab.runner import evaluate_stored, run_transfer
from bench.openmmlab.stored_weights import WEIGHTS
from bench.patches import features, patch_stride
from bench.protocols import load_protocol
from pretrain.exported import make_card, read_exported
from pretrain.nets.architectures import ARCHITECTURES, build_backbone, find_architecture, tensor_shapes

ROOT = Path("/data")
FACTS = {
    "name": "n", "method": "m", "color_order": "RGB", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2),
    "license": None, "code_commit": None,
}  # fmt: skip
TIMM = pytest.mark.skipif(not find_spec("timm"), reason="timm is an optional package")
NAMES = [*ARCHITECTURES, "vit_small_patch14_reg4_ls", "vit_tiny_patch32_nocls", "vit_tiny_patch14_ls_swiglu"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def source(work: Path) -> dict[str, object]:
    """The provenance of a card."""
    card = read_exported(checkpoint(work)).card
    return {"pretraining": card.pretraining, "source": card.source}


@pytest.mark.parametrize(
    ("name", "protocol_id"),
    [
        *((name, "mini_voc_det_frcnn_fpn") for name in NAMES),
        *((name, "mini_voc_seg_fcn") for name in NAMES if "resnet" not in name),
        ("wide_resnet50_2", "mini_voc_seg_fcn"),
        *(
            pytest.param(name, protocol, marks=TIMM)
            for name in ("mobilenetv2_100", "convnext_atto", "vit_tiny_patch16_dinov3_qkvb")
            for protocol in ("mini_voc_det_frcnn_fpn", "mini_voc_seg_fcn")
        ),
    ],
)
def test_every_architecture_fits_into_the_protocols(name: str, protocol_id: str, source: dict[str, object]) -> None:
    """Shapes alone, which takes no memory: names, strides and channels of what the heads read, and the guards.

    Networks of timm have maps of strides 4 to 32, as ResNets have, or of one stride, as ViTs have.
    """
    prepare_openmmlab()
    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS, init_default_scope

    card = make_card({**FACTS, **source, "architecture": name}, "0" * 64)
    config = resolve(load_protocol(protocol_id), card, ROOT)
    one = find_architecture(name)
    stages = len(set(one.strides)) > 1
    stride = 8 if stages else patch_stride(one.strides[0])
    side = 64 if stages else stride * one.input_size // one.strides[0]  # no position is interpolated
    init_default_scope(config["default_scope"])
    with torch.device("meta"):
        model = MODELS.build(ConfigDict(copy.deepcopy(config["model"]))).train()
        tensors = {key: torch.empty(shape) for key, shape in tensor_shapes(name).items()}
        assert compare_keys(model.backbone, tensors) == ([], [], [])
        assert sum(p.numel() for p in model.backbone.parameters()) == card.parameters
        guards.check_backbone(model.backbone, card)
        maps = model.extract_feat(torch.empty(2, 3, side, side))
        if protocol_id in SEGMENTATION:
            assert tuple(model.decode_head(maps).shape) == (2, 21, side // stride, side // stride)
        else:
            assert [tuple(m.shape) for m in maps] == [(2, 64, side // s, side // s) for s in (8, 16, 32)]


@pytest.mark.parametrize("name", ["resnet200", "wide_resnet50_2", "vit_small_patch16", "vit_base_patch8"])
def test_what_is_exported_is_recognised(name: str) -> None:
    from bench.checkpoints.containers import Leaf

    leaves = {key: Leaf("", key, torch.zeros(()).expand(shape)) for key, shape in tensor_shapes(name).items()}
    (candidate,) = find_candidates(leaves)
    assert candidate.nearest().name == name
    assert candidate.whole()


# Feeding.


@pytest.mark.parametrize(
    ("name", "size", "fed", "cells"),
    [
        ("vit_tiny_patch16", (64, 96), (64, 96), (4, 6)),
        ("vit_tiny_patch16", (65, 90), (80, 96), (5, 6)),
        ("vit_tiny_patch14", (64, 96), (56, 84), (4, 6)),
        ("vit_tiny_patch14", (56, 84), (56, 84), (4, 6)),
        ("vit_tiny_patch8", (36, 40), (40, 40), (5, 5)),
    ],
)
def test_images_become_whole_patches(name: str, size: tuple[int, int], fed: tuple[int, int], cells: object) -> None:
    torch.manual_seed(0)
    network = build_backbone(name).eval()
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        maps = features(network, x)
        scaled = x if fed == size else nn.functional.interpolate(x, fed, mode="bilinear", antialias=True)
        assert all(torch.equal(one, other) for one, other in zip(maps, network.features(scaled), strict=True))
    assert [tuple(m.shape[2:]) for m in maps] == [cells] * 4


def test_resnets_take_images_as_they_are() -> None:
    network = build_backbone("resnet18").eval()
    x = torch.randn(1, 3, 37, 45)
    with torch.no_grad():
        assert all(
            torch.equal(one, other) for one, other in zip(features(network, x), network.features(x), strict=True)
        )


# The pyramid.


def test_the_simple_pyramid_is_that_of_the_paper() -> None:
    """Li et al. 2022, section 3: strides 4, 8, 16, 32 from the map of stride 16 by deconvolutions of stride 2 (two,
    one, none) and max-pooling; computed here layer by layer."""
    prepare_openmmlab()
    from bench.openmmlab.backbones import SimplePyramid

    torch.manual_seed(0)
    neck: Any = SimplePyramid(32, 16, 8, [4, 8, 16, 32], {"type": "BN"}).eval()
    x = torch.randn(2, 32, 6, 5)
    first, second, third, fourth = neck((torch.zeros(1), x))
    assert [tuple(m.shape) for m in (first, second, third, fourth)] == [
        (2, 8, 24, 20), (2, 8, 12, 10), (2, 8, 6, 5), (2, 8, 3, 2),
    ]  # fmt: skip
    f = nn.functional

    def doubled(t: torch.Tensor, layer: Any) -> torch.Tensor:
        """Each cell becomes 2 x 2: no overlap, so it is a matrix product a cell."""
        n, _, h, w = t.shape
        out = torch.einsum("nchw,cdij->ndhiwj", t, layer.weight)
        return out.reshape(n, -1, 2 * h, 2 * w) + layer.bias[:, None, None]

    def normed(t: torch.Tensor) -> torch.Tensor:
        """Batch norm with untouched statistics."""
        return t / (1 + 1e-5) ** 0.5

    def level(t: torch.Tensor, one: Any, three: Any) -> torch.Tensor:
        t = normed(f.conv2d(t, one.conv.weight))
        return normed(f.conv2d(t, three.conv.weight, padding=1))

    layers = [list(level) for level in neck.levels]
    fine = doubled(f.gelu(normed(doubled(x, layers[0][0]))), layers[0][3])
    with torch.no_grad():
        for found, expected in (
            (first, level(fine, *layers[0][4:])),
            (second, level(doubled(x, layers[1][0]), *layers[1][1:])),
            (third, level(x, *layers[2])),
            (fourth, level(f.max_pool2d(x, 2), *layers[3][1:])),
        ):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# Whole models.


@pytest.mark.parametrize("protocol_id", IDS)
def test_a_vit_is_built_with_the_checkpoints_bits(protocol_id: str, work: Path) -> None:
    exported = read_exported(checkpoint(work, "vit_tiny_patch16"))
    tensors = dict(exported.tensors)
    protocol = load_protocol(protocol_id)
    model = build_model(resolve(protocol, exported.card, ROOT), tensors, seed=0)
    assert prove_backbone(model.backbone, tensors) == 150
    again = build_model(resolve(protocol, exported.card, ROOT), tensors, seed=0).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        model.backbone.network.blocks[3].mlp.fc1.bias[5] += 1e-3
    with pytest.raises(BenchError, match=r"1 tensors differ, first blocks.3.mlp.fc1.bias"):
        prove_backbone(model.backbone, tensors)


def test_several_processes_synchronise_a_wide_resnet(source: dict[str, object]) -> None:
    prepare_openmmlab()
    from bench.openmmlab.backbones import DenseBenchBackbone

    card = make_card({**FACTS, **source, "architecture": "wide_resnet50_2"}, "0" * 64)
    with torch.device("meta"):
        backbone = DenseBenchBackbone("wide_resnet50_2", (0, 1, 2, 3), synchronised=True).train()
        guards.check_backbone(backbone, card, world=2)
        alone = DenseBenchBackbone("wide_resnet50_2", (0, 1, 2, 3)).train()
    with pytest.raises(BenchError, match="not synchronised"):
        guards.check_backbone(alone, card, world=2)


def test_the_guards_see_a_vits_stem_and_norms(source: dict[str, object], work: Path) -> None:
    exported = read_exported(checkpoint(work, "vit_tiny_patch16"))
    protocol = load_protocol("mini_voc_det_frcnn_fpn")
    model = build_model(resolve(protocol, exported.card, ROOT), dict(exported.tensors), seed=0).train()
    other = exported.card.model_copy(update={"stem": "14x14"})
    with pytest.raises(BenchError, match="stem is not the 14x14 convolution"):
        guards.check_backbone(model.backbone, other)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(BenchError, match=r"the norm parameter backbone.network.blocks.0.norm1.weight has weight decay"):
        guards.check_weight_decay(model, optimizer, plan_of(protocol))


@pytest.mark.parametrize(
    ("protocol_id", "change", "words"),
    [
        ("mini_voc_det_frcnn_fpn", {"neck": {"type": "BFP"}}, "reads stages that vit_tiny_patch16 does not have"),
        ("mini_voc_det_frcnn_fpn", {"neck": None}, "reads stages"),
    ],
)
def test_models_that_cannot_take_a_vit_are_refused(
    protocol_id: str, change: dict[str, object], words: str, work: Path
) -> None:
    card = read_exported(checkpoint(work, "vit_tiny_patch16")).card
    protocol = changed(load_protocol(protocol_id), lambda config: config["model"].update(change))
    with pytest.raises(BenchError, match=words):
        resolve(protocol, card, ROOT)


def test_a_dilated_wide_resnet_is_refused(source: dict[str, object]) -> None:
    card = make_card({**FACTS, **source, "architecture": "wide_resnet50_2"}, "0" * 64)
    dilated = changed(
        load_protocol("mini_voc_seg_fcn"), lambda c: c["model"]["backbone"].update(dilations=(1, 1, 2, 4))
    )
    with pytest.raises(BenchError, match="dilates its backbone, which is not possible with wide_resnet50_2"):
        resolve(dilated, card, ROOT)


# Runs.


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "data"
    generate(root, train=8, val=4, pretrain=0)
    return root


@pytest.mark.parametrize(
    ("name", "protocol_id"),
    [
        ("vit_tiny_patch16", "mini_voc_det_frcnn_fpn"),
        ("vit_tiny_patch14", "mini_city_seg_fcn"),
        *(pytest.param("vit_tiny_patch16", one, marks=pytest.mark.slow) for one in IDS[1:]),
        *(pytest.param("vit_tiny_patch14_reg4_ls", one, marks=pytest.mark.slow) for one in IDS[:3]),
        pytest.param("wide_resnet50_2", "mini_coco_mrcnn_fpn", marks=pytest.mark.slow),
        pytest.param("resnet152", "mini_voc_seg_fcn", marks=pytest.mark.slow),
        pytest.param("convnext_atto", "mini_voc_seg_fcn", marks=TIMM),
        *(
            pytest.param(name, one, marks=[TIMM, pytest.mark.slow])
            for name in ("mobilenetv2_050", "tf_efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_dinov3_qkvb")
            for one in IDS
            if (name, one) != ("convnext_atto", "mini_voc_seg_fcn")
        ),
    ],
)
def test_two_iterations_and_the_evaluation(name: str, protocol_id: str, data: Path, tmp_path: Path) -> None:
    backbone, protocol = checkpoint(tmp_path / "work", name), short(protocol_id)
    result = run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / "run")
    assert (result.status, result.failure) == ("finished", None)
    report = result.training
    assert report is not None and report.executed_iterations == 2
    assert report.trainable_parameters == result.card.parameters + report.head_parameters
    assert report.head_parameters > 0
    assert result.operations is not None and result.operations.head
    assert evaluate_stored(protocol, backbone, data, tmp_path / "run", tmp_path / "again") == result.metrics
    assert (tmp_path / "run" / WEIGHTS).is_file()
