"""Each format is imported from a file with its real names, bit for bit, and called by its name."""

import io
import json
import pickle
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import real_names
import torch
import torchvision
from safetensors.torch import save_file
from synthetic_nets import StateDict

from bench.checkpoints import haiku
from bench.checkpoints.containers import read_container
from bench.checkpoints.formats import FORMATS, recognize
from bench.checkpoints.hub import declared
from bench.checkpoints.importing import import_checkpoint
from bench.checkpoints.inspection import inspect_checkpoint, read_backbone
from bench.checkpoints.layouts import LAYOUTS
from pretrain.exported import read_exported


def assert_same(found: Mapping[str, torch.Tensor], wanted: StateDict) -> None:
    for name, tensor in wanted.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("case", real_names.TORCH_FILES)
def test_torch_files_of_each_format(tmp_path: Path, resnet18_state: StateDict, case: str) -> None:
    called, prefix, content = real_names.TORCH_FILES[case]
    torch.save(content(resnet18_state), tmp_path / "checkpoint.pth")
    inspection, tensors = read_backbone(tmp_path / "checkpoint.pth")
    assert inspection.problems == ()
    assert (inspection.written_by or "").startswith(called)
    assert inspection.prefix == prefix
    assert_same(tensors, resnet18_state)


def test_every_entry_is_tried() -> None:
    called = {called for called, _, _ in real_names.TORCH_FILES.values()} | {"DeepMind", "detectron2"}
    resnets = [form.name for form in FORMATS if form.stem == "7x7"]
    assert [name for name in resnets if not name.startswith(tuple(called))] == []
    assert {layout for form in FORMATS for layout in form.layouts} <= {layout.name for layout in LAYOUTS}


@pytest.mark.parametrize(
    ("called", "names"),
    [
        ("DINO", ["student.module.backbone.cls_token", "teacher.backbone.blocks.0.attn.qkv.weight"]),
        ("MoCo v3", ["module.base_encoder.cls_token", "module.momentum_encoder.cls_token"]),
        ("MAE", ["model.cls_token", "model.decoder_embed.weight"]),
        ("timm or a released ViT", ["cls_token"]),
    ],
)
def test_transformers_of_the_methods(called: str, names: list[str]) -> None:
    form = recognize("timm's ViT names", names)
    assert form is not None and form.name == called


def test_the_exported_backbone_has_the_same_bits(tmp_path: Path, resnet18_state: StateDict) -> None:
    called, _, content = real_names.TORCH_FILES["SwAV"]
    torch.save(content(resnet18_state), tmp_path / "checkpoint.pth")
    exported = read_exported(import_checkpoint(tmp_path / "checkpoint.pth", name="x", work=tmp_path / "work"))
    assert_same(exported.tensors, resnet18_state)
    assert exported.card.source.format.startswith(called)
    assert exported.card.std == (0.228, 0.224, 0.225)


@pytest.fixture(scope="module")
def trained() -> StateDict:
    """Of a ResNet-18 whose kernels tell their axes apart."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: tensor if tensor.dtype == torch.int64 else torch.rand(tensor.shape, generator=generator)
        for name, tensor in torchvision.models.resnet18().state_dict().items()
        if not name.startswith("fc.")
    }


def byol(state: StateDict) -> bytes:
    """A checkpoint of BYOL: a tuple with names, whose class is not importable here."""
    params, states = real_names.haiku(state)
    params["projector/linear"] = {"w": np.ones((3, 2), np.float32)}
    module = types.ModuleType("research.byol.byol_experiment")

    class _ByolExperimentState(NamedTuple):
        online_params: Any
        target_params: Any
        online_state: Any
        target_state: Any
        opt_state: Any

    _ByolExperimentState.__module__, _ByolExperimentState.__qualname__ = module.__name__, "_ByolExperimentState"
    vars(module)["_ByolExperimentState"] = _ByolExperimentState
    content = _ByolExperimentState(params, {}, states, {}, (np.ones(2), ()))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("research", "research.byol"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        return pickle.dumps({"experiment_state": content, "step": 3, "rng": np.zeros(2, np.uint32)}, 2)


def relic(state: StateDict) -> bytes:
    """A checkpoint of ReLICv2: dictionaries, with the axis of the devices."""
    params, states = real_names.haiku(state, devices=1)
    return pickle.dumps({"experiment_state": {"online_params": params, "online_state": states}}, 4)


def detcon(state: StateDict) -> bytes:
    """DetCon's `.npy`: one dictionary of dictionaries."""
    params, states = real_names.haiku(state, norm="norm")
    buffer = io.BytesIO()
    np.save(buffer, params | states, allow_pickle=True)  # type: ignore[arg-type]
    return buffer.getvalue()


def flat(state: StateDict) -> bytes:
    """The same arrays in an `.npz`, a name each."""
    buffer = io.BytesIO()
    np.savez(buffer, **real_names.flat_haiku(state, "/"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "called"),
    [(byol, "DeepMind BYOL"), (relic, "DeepMind BYOL"), (detcon, "DeepMind DetCon"), (flat, "DeepMind DetCon")],
)
def test_arrays_of_haiku(tmp_path: Path, trained: StateDict, make: Callable[[StateDict], bytes], called: str) -> None:
    (tmp_path / "pretrain.pkl").write_bytes(make(trained))
    inspection, tensors = read_backbone(tmp_path / "pretrain.pkl")
    assert inspection.problems == ()
    assert (inspection.written_by or "").startswith(called)
    assert any("SAME" in note for note in inspection.notes)
    assert "SAME" in str(inspection.format)  # which the card repeats
    assert_same(tensors, trained)


def test_the_first_of_several_devices_counts() -> None:
    kernel = torch.rand(2, 3, 3, 8, 4)
    assert torch.equal(haiku.as_pytorch(kernel), kernel[0].permute(3, 2, 0, 1))
    assert torch.equal(haiku.as_pytorch(torch.arange(10.0).reshape(2, 1, 1, 1, 5)), torch.arange(5.0))


def test_arrays_of_jax_itself(tmp_path: Path) -> None:
    """`jax.Array` is pickled as what rebuilds it, which lies in a module that need not be there."""
    module = types.ModuleType("jax._src.array")

    def _reconstruct_array(*_: object) -> None:
        raise AssertionError("it was called")

    _reconstruct_array.__module__, _reconstruct_array.__qualname__ = module.__name__, "_reconstruct_array"
    vars(module)["_reconstruct_array"] = _reconstruct_array

    class Array:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            made, arguments, state, *_ = tuple(np.arange(6, dtype=np.float32).reshape(2, 3).__reduce__())
            return _reconstruct_array, (made, arguments, state, {"weak_type": False})

    with pytest.MonkeyPatch.context() as patch:
        for name in ("jax", "jax._src"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        (tmp_path / "jax.pkl").write_bytes(pickle.dumps({"w": Array()}, 4))
    (leaf,) = read_container(tmp_path / "jax.pkl").leaves.values()
    assert leaf.tensor.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_port_of_detcon_to_pytorch(tmp_path: Path, resnet18_state: StateDict) -> None:
    """Its names are those that `haiku` gives, without the network's."""
    ported = {
        haiku.renamed(name)[1].removeprefix("res_net18."): haiku.as_pytorch(torch.from_numpy(array.copy()))
        for name, array in real_names.flat_haiku(resnet18_state, ".").items()
        if not name.endswith((".hidden", ".counter"))
    }
    assert "block_groups.block_group_3.blocks.block_1.batchnorm_1.running_var" in ported
    torch.save(ported, tmp_path / "resnet18.ckpt")
    inspection, tensors = read_backbone(tmp_path / "resnet18.ckpt")
    assert (inspection.problems, inspection.written_by) == ((), "DeepMind DetCon")
    assert_same(tensors, resnet18_state)


def test_pickles_of_detectron2(tmp_path: Path, resnet18_state: StateDict) -> None:
    content = {"model": real_names.detectron2(resnet18_state), "__author__": "MOCO", "matching_heuristics": True}
    (tmp_path / "r18.pkl").write_bytes(pickle.dumps(content))
    inspection, tensors = read_backbone(tmp_path / "r18.pkl")
    assert (inspection.problems, inspection.written_by) == ((), "detectron2")
    assert_same(tensors, resnet18_state)


def test_detectors_with_the_input_of_caffe_are_refused(tmp_path: Path, resnet18_state: StateDict) -> None:
    backbone = {f"backbone.bottom_up.{n}": a for n, a in real_names.detectron2(resnet18_state).items()}
    for std, refused in ((np.ones((3, 1, 1), np.float32), True), (np.full((3, 1, 1), 57.0, np.float32), False)):
        content = {"model": backbone | {"pixel_std": std, "roi_heads.box_head.fc1.bias": np.ones(2, np.float32)}}
        (tmp_path / "detector.pkl").write_bytes(pickle.dumps(content))
        problems = inspect_checkpoint(tmp_path / "detector.pkl").problems
        assert [problem for problem in problems if "Caffe" in problem] == list(problems)
        assert bool(problems) == refused


ONE = np.ones(2)
FOREIGN: dict[str, tuple[object, str]] = {
    "Caffe": ({"model": {"conv1_w": ONE, "res2_0_branch2a_w": ONE, "res2_0_branch2a_bn_s": ONE}}, "Caffe"),
    "BiT": ({"resnet/block1/unit01/a/standardized_conv2d/kernel": ONE}, "BiT"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_relatives_that_our_networks_cannot_express(tmp_path: Path, case: str) -> None:
    content, reason = FOREIGN[case]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    assert any(reason in problem for problem in inspect_checkpoint(tmp_path / "x.pkl").problems)


VARIANTS: dict[str, tuple[dict[str, torch.Tensor | None], str]] = {
    "deep stem of timm": ({"conv1.weight": None, "conv1.0.weight": torch.ones(32, 3, 3, 3)}, "deep stem"),
    "deep stem of mmseg": ({"conv1.weight": None, "stem.0.weight": torch.ones(32, 3, 3, 3)}, "deep stem"),
    "Sobel": ({"conv1.weight": torch.ones(64, 2, 7, 7)}, "Sobel"),
    "CIFAR": ({"conv1.weight": torch.ones(64, 3, 3, 3)}, "small images"),
    "squeeze and excitation": ({"layer1.0.se.fc1.weight": torch.ones(4, 64, 1, 1)}, "squeeze"),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_variants_are_refused_by_name(tmp_path: Path, resnet18_state: StateDict, case: str) -> None:
    changes, reason = VARIANTS[case]
    state = {name: tensor for name, tensor in (resnet18_state | changes).items() if tensor is not None}
    torch.save(state, tmp_path / "x.pth")
    assert any(reason in problem for problem in inspect_checkpoint(tmp_path / "x.pth").problems)


def hub(folder: Path, state: StateDict, files: dict[str, object]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_folders_of_the_hub_say_their_input(tmp_path: Path, resnet18_state: StateDict) -> None:
    timm = {"architecture": "resnet18", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 0.5]}}
    folder = hub(tmp_path, resnet18_state, {"config": timm})
    card = read_exported(import_checkpoint(folder, name="a", work=tmp_path / "work", mean=(0.1, 0.2, 0.3))).card
    assert (card.mean, card.std) == ((0.1, 0.2, 0.3), (0.25, 0.5, 0.5))  # what the caller declares goes first


@pytest.mark.parametrize(
    ("files", "mean", "reason"),
    [
        ({"preprocessor_config": {"image_mean": [0.4, 0.4, 0.4]}}, (0.4, 0.4, 0.4), "mean 0.4 0.4 0.4"),
        ({"preprocessor_config": {"image_mean": [123.0, 116.0, 103.0]}}, None, "not for pixel values"),
        ({"preprocessor_config": {"image_mean": "no"}, "config": "{"}, None, "cannot be read"),
        ({"config": {"pretrained_cfg": {"mean": [10**400, float("nan"), True]}}}, None, "not for pixel values"),
        ({"config": "[" * 100_000}, None, "cannot be read"),
        ({"config": []}, None, ""),
    ],
)
def test_configurations_beside_the_weights(
    tmp_path: Path, files: dict[str, object], mean: object, reason: str
) -> None:  # fmt: skip
    hub(tmp_path, {}, files)
    found = declared(tmp_path / "model.safetensors")
    assert found.problems == ()
    assert found.input.get("mean") == mean
    assert not reason or any(reason in note for note in found.notes)


def test_a_configuration_that_says_caffe_is_refused(tmp_path: Path, resnet18_state: StateDict) -> None:
    config = {"model_type": "resnet", "downsample_in_bottleneck": True, "hidden_act": "gelu"}
    (problem,) = inspect_checkpoint(hub(tmp_path, real_names.transformers(resnet18_state), {"config": config})).problems
    assert "1x1" in problem and "gelu" in problem
