"""Makes a model with proven weights from a protocol and a card: fill the slots, build, load, compare bit by bit."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.datasets.classified import TREES, class_names
from bench.datasets.own.description import is_own, number_of
from bench.errors import BenchError
from bench.heads import PretrainedHead
from bench.openmmlab.adapting import DEPTHS, with_backbone
from bench.openmmlab.guards import check_no_other_weights
from bench.openmmlab.prepare import prepare_openmmlab
from bench.protocols import Protocol
from leaderboard.records import Card
from pretrain.nets.architectures import find_architecture


def slots(card: Card, data_root: Path, world: int = 1, seed: int = 0) -> dict[str, Any]:
    """The value of every slot that a config may hold: facts of the card (`card:...`), of the run (`run:...`) and, where
    `data_root` is own data, of its description (`data:...`). Of folders of classes, their number is one, too: see
    `resolve`."""
    channels = find_architecture(card.architecture).channels
    depth = {"card:depth": DEPTHS[card.architecture]} if card.architecture in DEPTHS else {}
    return (
        depth
        | {
            "card:stage_channels": list(channels),
            "card:upper_channels": list(channels[1:]),
            "card:c4_channels": channels[2],
            "card:c5_channels": channels[3],
            "card:mean": [255 * value for value in card.mean],
            "card:std": [255 * value for value in card.std],
            "card:bgr_to_rgb": card.color_order == "RGB",  # images are read as BGR
            "run:data_root": str(data_root.absolute()),
            "run:seed": seed,
            # one device sees the whole batch; several must share its statistics
            "run:norm": "BN" if world == 1 else "SyncBN",
            # on a CPU loading processes would take the cores that train
            "run:workers": min(8, torch.get_num_threads()) if torch.cuda.is_available() else 0,
        }
        | _of_own_data(data_root)
    )


def _of_own_data(data_root: Path) -> dict[str, int]:
    """The slots that only protocols for own data have: numbers from the description of the data."""
    if not is_own(data_root):
        return {}
    return {f"data:{what}": number_of(data_root, what) for what in ("classes", "labels")}


def resolve(protocol: Protocol, card: Card, data_root: Path, world: int = 1, seed: int = 0) -> dict[str, Any]:
    """The protocol's config with the card's backbone, every slot filled, and the batch divided among `world` processes.

    Raises:
        BenchError: the config has a slot that does not exist or a part that cannot take the backbone, or the batch
            cannot be divided.
    """
    values = slots(card, data_root, world, seed)
    if protocol.dataset in TREES:
        values["data:image_classes"] = len(class_names(data_root))

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(fill(item) for item in value)
        if isinstance(value, str) and value.startswith(("card:", "run:", "data:")):
            slot, slash, path = value.partition("/")  # "run:data_root/coco/..." is a path below the data root
            if slot not in values:
                raise BenchError(f"{protocol.config_file}: unknown slot {slot!r}; there are {', '.join(values)}")
            return values[slot] + slash + path if slash else copy.copy(values[slot])
        return value

    taken = dict(protocol.config)
    taken["model"] = with_backbone(taken["model"], card.architecture, protocol.id, synchronised=world > 1)
    config: dict[str, Any] = fill(taken)
    batch = config["train_dataloader"]["batch_size"]
    if batch % world:
        raise BenchError(f"{protocol.id}: a batch of {batch} cannot be divided among {world} processes")
    config["train_dataloader"]["batch_size"] = batch // world
    return config


def build_model(
    config: dict[str, Any], tensors: dict[str, Tensor], seed: int, head: PretrainedHead | None = None
) -> Any:
    """The protocol's model, a `torch.nn.Module`: necks and heads drawn from `seed`, backbone from `tensors`, proven.

    With `head`, the segmentation head is that one, proven, and only its classifier is drawn.

    Raises:
        BenchError: the backbone or the head does not match the checkpoint exactly, or the config names other weights.
    """
    prepare_openmmlab()
    from mmengine.config import ConfigDict
    from mmengine.logging import MMLogger
    from mmengine.registry import MODELS, init_default_scope

    MMLogger.get_current_instance().setLevel(logging.WARNING)  # it would print every parameter's initialization
    init_default_scope(config["default_scope"])
    torch.manual_seed(seed)
    model = MODELS.build(ConfigDict(copy.deepcopy(config["model"])))
    check_no_other_weights(model, config.get("load_from"))
    model.init_weights()
    load_backbone(checkpoint_part(model), tensors)
    prove_backbone(checkpoint_part(model), tensors)
    if head is not None:
        load_backbone(head_part(model), dict(head.tensors), "head")
        prove_backbone(head_part(model), dict(head.tensors), "head")
    if config["protocol"]["plan"].get("frozen", False):
        freeze(model.backbone)
    return model


def freeze(backbone: nn.Module) -> None:
    """Leave the backbone of a model as it is: nothing in it learns, and `train` of the model does not reach it."""
    backbone.requires_grad_(False).eval()
    backbone.train = lambda mode=True: backbone  # type: ignore[method-assign]


def checkpoint_part(model: Any) -> nn.Module:
    """The part of a model that the checkpoint fills: its backbone, and `layer4` where this is the RoI head (C4).

    Where it consists of both, it holds the model's own modules under the checkpoint's names.
    """
    backbone: nn.Module = model.backbone
    layer4 = getattr(getattr(getattr(model, "roi_head", None), "shared_head", None), "layer4", None)
    if layer4 is None:
        return backbone
    whole = nn.Module()
    for name, module in [*network_of(backbone).named_children(), ("layer4", layer4)]:
        whole.add_module(name, module)
    return whole


def head_part(model: Any) -> nn.Module:
    """The part of a segmenter that a pretrained head fills: its head without the classifier."""
    part = nn.Module()
    for name, module in model.decode_head.named_children():
        if name != "conv_seg":
            part.add_module(name, module)
    return part


def load_backbone(backbone: nn.Module, tensors: dict[str, Tensor], what: str = "backbone") -> None:
    """Copy `tensors` (names of the exported form) into `backbone` (of a model: its :func:`checkpoint_part`), or into a
    head (its :func:`head_part`), of which messages speak as `what`.

    Raises:
        BenchError: a tensor is missing, left over or of another shape; the message names the first of each.
    """
    missing, left_over, shapes = compare_keys(backbone, tensors)
    if missing or left_over or shapes:
        details = [
            f"{len(names)} {what} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
            for what, names in (("not filled", missing), ("left over", left_over), ("of another shape", shapes))
            if names
        ]
        raise BenchError(f"the checkpoint does not fit the protocol's {what}: tensors {'; '.join(details)}")
    network_of(backbone).load_state_dict(_learned(tensors), strict=False)  # `compare_keys` is the stricter check


def prove_backbone(backbone: nn.Module, tensors: dict[str, Tensor], what: str = "backbone") -> int:
    """Compare every tensor of the built backbone (or head) with the checkpoint, bit by bit; returns their number.

    Raises:
        BenchError: a tensor differs.
    """
    missing, left_over, shapes = compare_keys(backbone, tensors)
    state = _learned(network_of(backbone).state_dict())
    wrong = missing + left_over + shapes or [
        name for name, tensor in state.items() if not torch.equal(tensor.cpu(), tensors[name].to(tensor.dtype))
    ]
    if wrong:
        raise BenchError(f"the model's {what} is not the checkpoint's: {len(wrong)} tensors differ, first {wrong[0]}")
    return len(state)


def compare_keys(backbone: nn.Module, tensors: dict[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Names in the backbone only, names in the checkpoint only, and names whose shapes differ."""
    state, given = _learned(network_of(backbone).state_dict()), _learned(tensors)
    return (
        [name for name in state if name not in given],
        [name for name in given if name not in state],
        [name for name in state if name in given and state[name].shape != given[name].shape],
    )


def network_of(backbone: nn.Module) -> nn.Module:
    """The network whose tensors are the checkpoint's: what `DenseBenchBackbone` holds, or the libraries' ResNet."""
    network = getattr(backbone, "network", backbone)
    assert isinstance(network, nn.Module)
    return network


def _learned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without counters of batches: these are not weights, nothing here reads them, many files lack them."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
