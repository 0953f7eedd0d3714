"""State dicts under the names that real checkpoints use, made from torchvision's: the tests of the formats.

Each function takes torchvision's tensors without `fc` and gives what a file of that format holds. The names were read
in the authors' code (`bench.checkpoints.formats` says where).
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from synthetic_nets import StateDict, with_prefix

Tree = dict[str, Any]


def beside(*names: str) -> StateDict:
    """Small tensors of these names: heads, queues."""
    return {name: torch.full((2,), 0.5) for name in names}


def other(state: StateDict) -> StateDict:
    """Other weights of the same shapes: a momentum copy."""
    return {name: torch.full((), 0.5).expand(tensor.shape) for name, tensor in state.items()}


def positional(state: StateDict) -> StateDict:
    """Of `nn.Sequential(*resnet.children())`."""
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    return {places[n.split(".", 1)[0]] + "." + n.split(".", 1)[1]: t for n, t in state.items()}


def detectron2(state: StateDict) -> dict[str, np.ndarray[Any, Any]]:
    """As the converters of MoCo, SoCo and others write it."""

    def renamed(name: str) -> str:
        name = re.sub(r"bn(\d)\.", r"conv\1.norm.", name)
        name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        return re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name if name[:5] == "layer" else f"stem.{name}")

    return {renamed(n): t.numpy() for n, t in state.items() if not n.endswith("num_batches_tracked")}


def transformers(state: StateDict) -> StateDict:
    """Hugging Face's ResNet."""

    def renamed(name: str) -> str:
        name = re.sub(r"^layer(\d)\.(\d+)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.", name)
        name = re.sub(r"^conv1\.", "embedder.embedder.convolution.", name)
        name = re.sub(r"^bn1\.", "embedder.embedder.normalization.", name)
        name = re.sub(r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution.", name)
        name = re.sub(r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization.", name)
        return name.replace("downsample.0", "shortcut.convolution").replace("downsample.1", "shortcut.normalization")

    return {renamed(n): t for n, t in state.items()}


def haiku(state: StateDict, *, norm: str = "batchnorm", devices: int = 0, top: str = "res_net18") -> tuple[Tree, Tree]:
    """DeepMind's parameters and state: kernels HWIO, BatchNorm's arrays (1, 1, 1, C), with the axis of the devices."""
    params: Tree = {}
    states: Tree = {}
    for name, tensor in state.items():
        *path, last = name.split(".")
        if last == "num_batches_tracked":
            continue
        if path[0] in ("conv1", "bn1"):
            module = f"{top}/~/initial_" + ("conv" if path[0] == "conv1" else norm)
        else:
            stage, block, *inner = path
            if inner[0] == "downsample":
                part = f"shortcut_{'conv' if inner[1] == '0' else norm}"
            else:
                part = f"{'conv' if inner[0][:-1] == 'conv' else norm}_{int(inner[0][-1]) - 1}"
            module = f"{top}/~/block_group_{int(stage[-1]) - 1}/~/block_{block}/~/{part}"
        array = tensor.numpy()
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.reshape(1, 1, 1, -1)
        if devices:
            array = np.broadcast_to(array, (devices, *array.shape))
        if last.startswith("running_"):
            average = f"{module}/~/{'mean' if last == 'running_mean' else 'var'}_ema"
            states[average] = {"average": array, "hidden": array * 0, "counter": np.int32(5)}
        elif tensor.ndim == 4:
            params.setdefault(module, {})["w"] = array
        else:
            params.setdefault(module, {})["scale" if last == "weight" else "offset"] = array
    return params, states


def flat_haiku(state: StateDict, separator: str) -> dict[str, np.ndarray[Any, Any]]:
    """The same arrays without dictionaries in dictionaries."""
    trees = haiku(state)
    return {
        f"{m}{separator}{n}": np.asarray(a) for tree in trees for m, found in tree.items() for n, a in found.items()
    }


def extended(state: StateDict, prefix: str, *more: str) -> StateDict:
    """The network under a prefix, and heads under names of their own."""
    return with_prefix(state, prefix) | beside(*more)


TORCH_FILES: dict[str, tuple[str, str, Callable[[StateDict], Any]]] = {
    # What `inspect` calls the format, the prefix that it should find, and the content of the file.
    "torchvision": ("torchvision, timm", "", lambda s: s | beside("fc.weight", "fc.bias")),
    "SimCLR converted": ("torchvision, timm", "", lambda s: {"state_dict": s | beside("fc.weight", "fc.bias")}),
    "timm training": (
        "torchvision, timm",
        "",
        lambda s: {"arch": "resnet18", "state_dict": s, "state_dict_ema": other(s)},
    ),
    "MoCo": (
        "MoCo v1, v2",
        "module.encoder_q.",
        lambda s: {
            "epoch": 200,
            "arch": "resnet18",
            "state_dict": extended(s, "module.encoder_q.", "module.encoder_q.fc.0.weight", "module.encoder_q.fc.2.bias")
            | extended(other(s), "module.encoder_k.", "module.queue", "module.queue_ptr"),
        },
    ),
    "MoCo v3": (
        "MoCo v3",
        "module.base_encoder.",
        lambda s: {
            "state_dict": extended(s, "module.base_encoder.", "module.base_encoder.fc.0.bias")
            | with_prefix(other(s), "module.momentum_encoder.")
        },
    ),
    "SimSiam": (
        "SimSiam",
        "module.encoder.",
        lambda s: {
            "state_dict": extended(s, "module.encoder.", "module.encoder.fc.0.weight", "module.predictor.0.weight")
        },
    ),
    "SwAV": (
        "SwAV",
        "module.",
        lambda s: extended(s, "module.", "module.projection_head.0.weight", "module.prototypes.weight"),
    ),
    "DINO": (
        "DINO",
        "backbone.",
        lambda s: {
            "student": extended(other(s), "module.backbone.", "module.head.mlp.0.weight"),
            "teacher": extended(s, "backbone.", "head.mlp.0.weight", "head.last_layer.weight_v"),
            "dino_loss": beside("center"),
            "epoch": 800,
        },
    ),
    "VICReg": (
        "VICReg",
        "module.backbone.",
        lambda s: {"epoch": 3, "model": extended(s, "module.backbone.", "module.projector.0.weight")},
    ),
    "VICRegL": (
        "VICRegL",
        "module.backbone.",
        lambda s: {
            "model": extended(s, "module.backbone.", "module.maps_projector.0.weight", "module.classifier.weight")
        },
    ),
    "Barlow Twins": (
        "Barlow Twins",
        "module.backbone.",
        lambda s: {
            "model": extended(s, "module.backbone.", "module.projector.0.weight", "module.bn.running_mean"),
            "optimizer": {"state": {0: {"mu": torch.ones(2)}}},
        },
    ),
    "DenseCL": (
        "DenseCL",
        "encoder_q.0.",
        lambda s: {
            "meta": {},
            "state_dict": extended(s, "encoder_q.0.", "encoder_q.1.mlp.0.weight", "encoder_q.1.mlp2.0.weight", "queue2")
            | with_prefix(s, "backbone.")
            | extended(other(s), "encoder_k.0.", "encoder_k.1.mlp.0.weight", "queue"),
        },
    ),
    "RegionCL": (
        "RegionCL",
        "encoder_q.0.",
        lambda s: {
            "state_dict": extended(s, "encoder_q.0.", "encoder_q.1.mlp.0.weight", "queue")
            | with_prefix(s, "backbone.")
            | with_prefix(other(s), "encoder_k.0.")
        },
    ),
    "PixPro": (
        "PixPro",
        "module.encoder.",
        lambda s: {
            "model": extended(s, "module.encoder.", "module.projector.linear1.weight", "module.value_transform.weight")
            | extended(other(s), "module.encoder_k.", "module.projector_k.linear1.weight")
        },
    ),
    "SFC": (
        "SFC",
        "online_encoder.",
        lambda s: {
            "model": extended(s, "online_encoder.", "online_projector.linear1.weight", "predictor.linear1.weight")
            | extended(other(s), "target_encoder.", "target_projector.linear1.weight")
        },
    ),
    "SlotCon": (
        "SlotCon",
        "module.encoder_k.",
        lambda s: {
            "model": extended(other(s), "module.encoder_q.", "module.grouping_q.slot_embed.weight")
            | extended(s, "module.encoder_k.", "module.grouping_k.slot_embed.weight")
        },
    ),
    "SoCo": (
        "SoCo",
        "module.encoder.",
        lambda s: {
            "model": extended(
                s, "module.encoder.", "module.projector.linear1.weight", "module.predictor.linear1.weight"
            )
            | extended(other(s), "module.encoder_k.", "module.projector_k.linear1.bias", "module.neck.fpn_convs.0.bias")
        },
    ),
    "ReSim": (
        "ReSim",
        "module.encoder_q.",
        lambda s: {
            "state_dict": extended(s, "module.encoder_q.", "module.encoder_q.fpn_lateral2.weight", "module.queue")
            | with_prefix(other(s), "module.encoder_k.")
        },
    ),
    "CP2": (
        "CP2",
        "module.encoder_q.backbone.",
        lambda s: {
            "state_dict": extended(s, "module.encoder_q.backbone.", "module.encoder_q.decode_head.conv_seg.weight")
            | extended(other(s), "module.encoder_k.backbone.", "module.queue")
        },
    ),
    "R2O": (
        "R2O",
        "module.online_network.encoder.",
        lambda s: {
            "model": extended(
                positional(s), "module.online_network.encoder.", "module.online_network.projetion.l1.bias"
            )
            | extended(positional(other(s)), "module.target_network.encoder.", "module.predictor.predictor.l1.weight")
        },
    ),
    "ORL": (
        "ORL",
        "online_net.0.",
        lambda s: {
            "state_dict": with_prefix(s, "backbone.")
            | extended(s, "online_net.0.", "online_net.1.fc0.weight", "neck.fc0.weight")
            | extended(other(s), "target_net.0.", "head.predictor.fc0.weight")
        },
    ),
    "mmselfsup": (
        "mmselfsup",
        "backbone.",
        lambda s: {
            "meta": {},
            "state_dict": extended(s, "backbone.", "neck.mlp.0.weight", "queue")
            | extended(other(s), "encoder_k.module.0.", "encoder_k.module.1.mlp.0.weight", "encoder_k.steps"),
        },
    ),
    "VISSL": (
        "VISSL",
        "_feature_blocks.",
        lambda s: {
            "phase_idx": 1,
            "classy_state_dict": {
                "base_model": {
                    "model": {"trunk": with_prefix(s, "_feature_blocks."), "heads": beside("0.clf.0.weight")},
                },
                "loss": beside("center"),
            },
        },
    ),
    "VISSL MoCo": (
        "VISSL",
        "_feature_blocks.",
        lambda s: {
            "classy_state_dict": {
                "base_model": {"model": {"trunk": with_prefix(s, "_feature_blocks.")}},
                "loss": with_prefix(other(s), "moco_encoder.trunk._feature_blocks."),
            },
        },
    ),
    "VISSL converted": (
        "VISSL",
        "_feature_blocks.",
        lambda s: {"model_state_dict": with_prefix(s, "_feature_blocks.")},
    ),
    "solo-learn": (
        "solo-learn",
        "backbone.",
        lambda s: {
            "pytorch-lightning_version": "1.6.4",
            "state_dict": extended(s, "backbone.", "projector.0.weight", "classifier.weight", "predictor.0.weight")
            | extended(other(s), "momentum_backbone.", "momentum_projector.0.weight"),
        },
    ),
    "lightly": (
        "lightly",
        "backbone.",
        lambda s: {
            "state_dict": extended(positional(s), "backbone.", "projection_head.layers.0.weight")
            | with_prefix(positional(other(s)), "backbone_momentum.")
        },
    ),
    "transformers": (
        "Hugging Face transformers",
        "resnet.",
        lambda s: extended(transformers(s), "resnet.", "classifier.1.weight", "classifier.1.bias"),
    ),
    "transformers without a head": ("Hugging Face transformers", "", transformers),
}
