"""What other libraries call a form of a backbone: which architectures they have, their files, how they are loaded."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from bench.errors import BenchError
from bench.exports.names import (
    DETECTRON2,
    HUGGING_FACE_RESNET,
    HUGGING_FACE_VIT,
    POSITIONAL,
    TORCHVISION_VIT,
    renamed,
    split_attention,
)
from leaderboard.records import Card
from pretrain.nets.architectures import Architecture, ResNetArchitecture, ViTArchitecture

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Form:
    """A library's files of a backbone."""

    name: str
    """Name of the form, as `--format` takes it."""
    files: Callable[[Architecture, Tensors, Card], Mapping[str, bytes]]
    """The content of each file by its name, for tensors that expect RGB. Raises `BenchError` for an architecture that
    the library does not have."""
    usage: Callable[[Architecture, Card], str]
    """Lines of Python that load the files, in the folder that holds them; where the library normalizes images, also
    those that say how. The card is of a network that expects RGB."""


def find_form(name: str) -> Form:
    """The form called `name`. Raises `BenchError` if there is none."""
    for form in FORMS:
        if form.name == name:
            return form
    raise BenchError(f"there is no format {name!r}: choose one of {', '.join(form.name for form in FORMS)}")


def _torch_file(value: Any) -> bytes:
    """A file for `torch.load`, readable with `weights_only=True`."""
    buffer = BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _pixels(values: Sequence[float]) -> list[float]:
    """Mean or standard deviation for pixels in [0, 255] instead of [0, 1]."""
    return [round(255 * value, 4) for value in values]


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _refuse(library: str, architecture: Architecture, why: str) -> BenchError:
    return BenchError(f"{library} cannot hold {architecture.name}: {why}; choose another --format")


def _resnet(library: str, architecture: Architecture, *depths: str) -> ResNetArchitecture:
    """The architecture, if it is a ResNet, and one of `depths` where these are given."""
    if not isinstance(architecture, ResNetArchitecture):
        raise _refuse(library, architecture, "this format is for ResNets")
    if depths and architecture.name not in depths:
        raise _refuse(library, architecture, f"it has {', '.join(depths)}")
    return architecture


def _plain_vit(library: str, architecture: Architecture) -> ViTArchitecture:
    """The architecture, if it is a ViT without registers, layer scale and the like."""
    if not isinstance(architecture, ViTArchitecture):
        raise _refuse(library, architecture, "this format is for ResNets and ViTs")
    added = architecture.registers or architecture.layer_scale or architecture.gated
    if added or not (architecture.class_token and architecture.qkv_bias):
        raise _refuse(
            library, architecture, "its ViT has a class token and biases, no registers, layer scales and gates"
        )
    return architecture


_USUAL = tuple(f"resnet{depth}" for depth in (18, 34, 50, 101, 152))
_WIDE = ("wide_resnet50_2", "wide_resnet101_2")


def _torchvision(architecture: Architecture, tensors: Tensors, card: Card) -> dict[str, bytes]:
    if isinstance(architecture, ResNetArchitecture):
        _resnet("torchvision", architecture, *_USUAL, *_WIDE)
        return {"backbone.pth": _torch_file(dict(tensors))}
    _plain_vit("torchvision", architecture)
    return {"backbone.pth": _torch_file(renamed(tensors, TORCHVISION_VIT))}


def _torchvision_usage(architecture: Architecture, card: Card) -> str:
    if isinstance(architecture, ViTArchitecture):
        width = architecture.channels[-1]
        build = (
            f"network = torchvision.models.VisionTransformer({architecture.input_size}, {architecture.patch}, "
            f"{architecture.depth}, {architecture.heads}, {width}, {4 * width})\n"
            "network.heads = torch.nn.Identity()"
        )
    else:
        build = f"network = torchvision.models.{architecture.name}()\nnetwork.fc = torch.nn.Identity()"
    return (
        f"import torch\nimport torchvision\n\n{build}\n"
        'network.load_state_dict(torch.load("backbone.pth", weights_only=True))'
    )


def _timm(architecture: Architecture, tensors: Tensors, card: Card) -> dict[str, bytes]:
    arguments: dict[str, Any] = {}
    name, side = architecture.name, architecture.input_size
    if isinstance(architecture, ViTArchitecture):
        if architecture.gated:
            raise _refuse("this format", architecture, "gated perceptrons are not written")
        size = name.split("_")[1]
        name = f"vit_{size}_patch16_224"
        arguments = {
            "patch_size": architecture.patch,
            "img_size": side,
            "num_heads": architecture.heads,
            "reg_tokens": architecture.registers,
            "class_token": architecture.class_token,
            "qkv_bias": architecture.qkv_bias,
            "init_values": 1e-5 if architecture.layer_scale else None,
            "global_pool": "token" if architecture.class_token else "avg",
            "fc_norm": False,
            "dynamic_img_size": True,
        }
        if size == "huge":
            name = "vit_huge_patch14_224"
    elif not isinstance(architecture, ResNetArchitecture):
        raise _refuse("this format", architecture, "its classifier's layers were left out when it was imported")
    config = {
        "architecture": name,
        "num_classes": 0,
        "num_features": architecture.channels[-1],
        "model_args": arguments,
        "pretrained_cfg": {
            "tag": "densebench",
            "num_classes": 0,
            "input_size": [3, side, side],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "mean": list(card.mean),
            "std": list(card.std),
            "first_conv": "patch_embed.proj" if arguments else "conv1",
            "classifier": "head" if arguments else "fc",
        },
    }
    return {"config.json": _json(config), "model.safetensors": save(dict(tensors), {"format": "pt"})}


def _timm_usage(architecture: Architecture, card: Card) -> str:
    return 'import timm\n\nnetwork = timm.create_model("local-dir:.", pretrained=True)'


def _hugging_face(architecture: Architecture, tensors: Tensors, card: Card) -> dict[str, bytes]:
    side = architecture.input_size
    if isinstance(architecture, ResNetArchitecture):
        if architecture.inner_width != 64:
            raise _refuse("transformers", architecture, "its ResNet has no wider one")
        named = renamed(tensors, HUGGING_FACE_RESNET)
        config: dict[str, Any] = {
            "model_type": "resnet",
            "architectures": ["ResNetModel"],
            "num_channels": 3,
            "embedding_size": 64,
            "hidden_sizes": list(architecture.channels),
            "depths": list(architecture.blocks),
            "layer_type": architecture.block,
            "hidden_act": "relu",
            "downsample_in_first_stage": False,
            "downsample_in_bottleneck": False,
        }
    else:
        vit = _plain_vit("transformers", architecture)
        named, width = renamed(split_attention(tensors), HUGGING_FACE_VIT), vit.channels[-1]
        config = {
            "model_type": "vit",
            "architectures": ["ViTModel"],
            "num_channels": 3,
            "image_size": side,
            "patch_size": vit.patch,
            "hidden_size": width,
            "num_hidden_layers": vit.depth,
            "num_attention_heads": vit.heads,
            "intermediate_size": 4 * width,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "qkv_bias": True,
        }
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(card.mean),
        "image_std": list(card.std),
    }
    return {
        "config.json": _json(config),
        "preprocessor_config.json": _json(processor),
        "model.safetensors": save(named, {"format": "pt"}),
    }


def _hugging_face_usage(architecture: Architecture, card: Card) -> str:
    if isinstance(architecture, ViTArchitecture):
        return 'from transformers import ViTModel\n\nnetwork = ViTModel.from_pretrained(".", add_pooling_layer=False)'
    return 'from transformers import ResNetModel\n\nnetwork = ResNetModel.from_pretrained(".")'


def _openmmlab(architecture: Architecture, tensors: Tensors, card: Card) -> dict[str, bytes]:
    _resnet("mmdetection", architecture, *_USUAL)
    return {"backbone.pth": _torch_file({"state_dict": dict(tensors)})}


def _openmmlab_usage(architecture: Architecture, card: Card) -> str:
    return f"""backbone = dict(
    type="ResNet",
    depth={architecture.name.removeprefix("resnet")},
    out_indices=(0, 1, 2, 3),
    frozen_stages=-1,  # all layers are trained
    norm_eval=False,
    norm_cfg=dict(type="SyncBN", requires_grad=True),  # on one GPU: BN
    style="pytorch",
    init_cfg=dict(type="Pretrained", checkpoint="backbone.pth"),
)
data_preprocessor = dict(  # beside what the config has there
    mean={_pixels(card.mean)},
    std={_pixels(card.std)},
    bgr_to_rgb=True,
)"""


def _detectron2(architecture: Architecture, tensors: Tensors, card: Card) -> dict[str, bytes]:
    _resnet("detectron2", architecture, *_USUAL, *_WIDE)
    arrays = {name: tensor.numpy() for name, tensor in renamed(tensors, DETECTRON2).items()}
    model = {"model": arrays, "__author__": "DenseBench", "matching_heuristics": True}
    return {"backbone.pkl": pickle.dumps(model, protocol=4)}


def _detectron2_usage(architecture: Architecture, card: Card) -> str:
    name = architecture.name
    wide = "\ncfg.MODEL.RESNETS.WIDTH_PER_GROUP = 128" if name in _WIDE else ""
    small = "\ncfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64" if name in _USUAL[:2] else ""
    depth = name.removeprefix("wide_").removesuffix("_2").removeprefix("resnet")
    return f"""cfg.MODEL.WEIGHTS = "backbone.pkl"
cfg.MODEL.RESNETS.DEPTH = {depth}{wide}{small}
cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
cfg.MODEL.RESNETS.NORM = "SyncBN"
cfg.MODEL.BACKBONE.FREEZE_AT = 0
cfg.INPUT.FORMAT = "RGB"
cfg.MODEL.PIXEL_MEAN = {_pixels(card.mean)}
cfg.MODEL.PIXEL_STD = {_pixels(card.std)}"""


def _lightly(architecture: Architecture, tensors: Tensors, card: Card) -> dict[str, bytes]:
    _resnet("this format", architecture, *_USUAL, *_WIDE)
    return {"backbone.pth": _torch_file(renamed(tensors, POSITIONAL))}


def _lightly_usage(architecture: Architecture, card: Card) -> str:
    return f"""import torch
import torchvision

backbone = torch.nn.Sequential(*list(torchvision.models.{architecture.name}().children())[:-1])
backbone.load_state_dict(torch.load("backbone.pth", weights_only=True))"""


FORMS: tuple[Form, ...] = (
    Form("torchvision", _torchvision, _torchvision_usage),
    Form("timm", _timm, _timm_usage),
    Form("huggingface", _hugging_face, _hugging_face_usage),
    Form("mmdet", _openmmlab, _openmmlab_usage),
    Form("detectron2", _detectron2, _detectron2_usage),
    Form("lightly", _lightly, _lightly_usage),
)
