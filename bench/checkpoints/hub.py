"""Reads what a folder of the Hugging Face hub says besides the weights: the input's mean and std, the architecture.

`config.json` of timm has `pretrained_cfg` with `mean` and `std`, and in `model_args` what was changed of the
architecture; transformers writes `image_mean` and `image_std` into `preprocessor_config.json`, and into `config.json`
the properties of a ResNet or a ViT that no tensor shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.checkpoints.families import Architecture
from bench.checkpoints.vits import with_heads
from leaderboard.base.printable import printable_name
from pretrain.nets.architectures import ViTArchitecture, find_architecture

Triple = tuple[float, float, float]
MOST_BYTES = 2**20
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Beginnings of names of weights in folders of the hub; next to other files a `config.json` may describe anything."""
_HARMLESS = {
    "img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "mlp_ratio", "qkv_bias", "init_values",
    "class_token", "reg_tokens", "no_embed_class", "global_pool", "dynamic_img_size", "strict_img_size", "weight_init",
    "fix_init", "zero_init_last", "fc_norm",
}  # fmt: skip
"""Arguments of timm's models that tensors show, that only start the training, or that the feature maps do not use."""


@dataclass(frozen=True)
class Declared:
    """What the files in the folder say; empty if there are none."""

    input: Mapping[str, Triple]
    """`mean` and `std` for pixel values in [0, 1], where they are given."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    architecture: str | None = None
    """timm's name of the network, without the tag of its weights."""
    heads: int | None = None
    """Attention heads of each block of a ViT."""
    activation: str | None = None
    """Activation in the perceptrons of a ViT."""
    changed: tuple[str, ...] = ()
    """Arguments with which timm's network was built that may change what it computes."""


def declared(weights: Path) -> Declared:
    """Read the files next to the weights; files that cannot be read are skipped with a note."""
    if not weights.name.startswith(_WEIGHTS):
        return Declared({})
    notes: list[str] = []
    config, processor = (_read(weights.with_name(f"{name}.json"), notes) for name in ("config", "preprocessor_config"))
    given: dict[str, Triple] = {}
    own = config.get("pretrained_cfg")
    for key in ("mean", "std"):
        for where, value in ((own, key), (processor, f"image_{key}")):
            if not isinstance(where, Mapping) or where.get(value) is None:
                continue
            triple = _triple(where[value])
            if triple is None:
                notes.append(f"{value} of the configuration next to the weights is not for pixel values in [0, 1]")
            else:
                given[key] = triple
    if given:
        said = ", ".join(f"{key} {' '.join(f'{value:g}' for value in triple)}" for key, triple in given.items())
        notes.append(f"the configuration next to the weights says {said}: the card's, where nothing else is declared")
    name = config.get("architecture")
    architecture = name.split(".")[0] if isinstance(name, str) else None
    arguments = config.get("model_args")
    arguments = arguments if isinstance(arguments, Mapping) else {}
    heads = arguments.get("num_heads", config.get("num_attention_heads"))
    activation = arguments.get("act_layer", config.get("hidden_act"))
    return Declared(
        given,
        tuple(notes),
        tuple(_problems(config)),
        architecture,
        heads if type(heads) is int else None,
        activation if isinstance(activation, str) else None,
        tuple(key for key, value in arguments.items() if value is not None and not _is_harmless(key)),
    )


def fitted(expected: Architecture, beside: Declared, *, named: bool) -> tuple[Architecture, list[str], list[str]]:
    """The network with what the configuration says of it, a note on that, and the problems that it shows.

    `named` says that the caller named the network: then its heads are not the configuration's.
    """
    found, notes, problems = find_architecture(expected.name), [], []
    is_vit = isinstance(found, ViTArchitecture)
    read = {"num_heads": beside.heads, "act_layer": beside.activation} if is_vit else {}
    changed = [key for key in beside.changed if read.get(key) is None]
    if changed:
        problems.append(
            f"model_args in config.json change the network ({', '.join(map(printable_name, changed[:3]))}): not "
            "supported; if they change nothing that is computed, remove them there"
        )
    if is_vit and beside.activation is not None and beside.activation.lower() != "gelu":
        problems.append(
            f"config.json says that the activation is {printable_name(beside.activation)}: only GELU is supported"
        )
    heads, width = beside.heads, found.channels[-1]
    if is_vit and heads is not None and not named:
        if heads < 1 or width % heads:
            problems.append(f"config.json says {heads} attention heads, which cannot share a width of {width} equally")
        else:
            expected = with_heads(expected, heads)
            notes.append(f"{heads} attention heads, as the file next to the weights says")
    return expected, notes, problems


def _is_harmless(argument: str) -> bool:
    return argument in _HARMLESS or re.fullmatch(r"(\w+_)?drop_(\w+_)?rate", argument) is not None


def _problems(config: Mapping[str, Any]) -> list[str]:
    """Reasons why the network computes something else than ours, although all tensors fit."""
    if config.get("model_type") != "resnet":
        return []
    found = []
    if config.get("downsample_in_bottleneck") is True and config.get("layer_type") != "basic":
        found.append("the stride on the first 1x1 convolution of a block (Caffe style)")
    if config.get("downsample_in_first_stage") is True:
        found.append("a stride in the first stage")
    if config.get("hidden_act", "relu") != "relu":
        found.append(f"another activation than ReLU ({str(config['hidden_act'])[:40]!r})")
    return [f"config.json says that the network has {' and '.join(found)}: not supported"] if found else []


def _triple(value: object) -> Triple | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    if not all(type(number) in (int, float) and 0 <= number <= 1 for number in value):
        return None
    red, green, blue = map(float, value)
    return red, green, blue


def _read(path: Path, notes: list[str]) -> Mapping[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{path.name} next to the weights cannot be read ({type(error).__name__}) and was passed over")
        return {}
    return content if isinstance(content, dict) else {}
