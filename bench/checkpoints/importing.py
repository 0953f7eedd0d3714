"""Turn a checkpoint into an exported backbone (`backbone.safetensors`, `card.json`) and prove that nothing changed.

It is kept in `work/checkpoints/<first 12 digits of the SHA-256 of backbone.safetensors>/`, so equal weights have one
folder. One folder has one card: importing the same weights with the same card again returns the folder. Importing them
with another card (name, mean, license, ...) is an error that names the difference, because results are found by the
weights and would otherwise appear under the old card. For the same reason a name stands for one set of weights in a
work folder. To rename or correct a card, remove the folder and import again. A card may say more of the pretraining
than the one that is there; but if it tells of copies of test images, the one that is there must, too.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.checkpoints.card_differences import check_copies, contradictions
from bench.checkpoints.families import architecture, optional
from bench.checkpoints.heads import head_of
from bench.checkpoints.inspection import Inspection, read_backbone
from bench.checkpoints.values import convert, same_bits
from bench.errors import BenchError
from leaderboard.base.files import describe_os_error, file_sha256, locked, make_folder, write_atomic
from leaderboard.base.printable import printable_name
from leaderboard.records import RANDOM_METHOD, Card, Pretraining, Source
from pretrain.errors import PretrainError
from pretrain.exported import CARD, HEAD, WEIGHTS, make_card, read_card, read_exported, serialized, write_files
from pretrain.nets.architectures import ResNetArchitecture, build_backbone, find_architecture

Triple = tuple[float, float, float]
RANDOM = re.compile(r"random:([^:]*)(?::(\d+))?")
"""Matches the name of random initialization: an architecture, and optionally a seed."""
_FRESH = ".importing-"
"""Beginning of the name of a folder that an import is still filling."""
_DEFAULTS: dict[str, Any] = {
    "color_order": "RGB",
    "license": None,
    "code_commit": None,
}
"""Fields of a card where nothing else is declared."""


def import_checkpoint(
    path: str | Path,
    *,
    name: str,
    work: Path,
    method: str | None = None,
    license: str | None = None,
    color_order: Literal["RGB", "BGR"] | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
    pretraining: Pretraining | None = None,
    code_commit: str | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
) -> Path:
    """Write the backbone of `path` and its card into `work`, prove the copy, and return their folder.

    A segmentation head that was trained with the backbone goes with it, for the protocols that load it.

    Weights do not show color order, mean and std. A file without a card gets what is declared here, otherwise what its
    format or a configuration next to it implies (SwAV: std .228 .224 .225), otherwise RGB and what is usual for the
    architecture: mean .485 .456 .406, std .229 .224 .225, or for a network of timm what timm's own weights expect.

    Args:
        path: a safetensors or torch file, trusted or not; a folder that `densebench export` wrote, or its
            `backbone.safetensors` (its card is taken over, with the new name and the fields given here); or
            `random:ARCHITECTURE` or `random:ARCHITECTURE:SEED` for random weights (seed 0 if not given).
        name: the submission's name: letters, digits and `. _ + -`, at most 80.
        work: the work folder.
        method: the method as the field writes it; `name` if not given.
        color_order, mean, std: the input that the backbone expects, for pixel values in [0, 1].
        prefix: which network of the file, where the rule of `layouts` would pick another.
        architecture: name of the network, where several have the same tensors; where there is a card, the card's.

    Raises:
        BenchError: the file is unreadable or does not match (every problem is listed), a card field is not valid,
            the same weights are there with another card, the name belongs to other weights, or the proof fails.
    """
    fields = {
        "method": method,
        "license": license,
        "color_order": color_order,
        "mean": mean,
        "std": std,
        "pretraining": pretraining,
        "code_commit": code_commit,
    }
    said = {key: value for key, value in fields.items() if value is not None}
    random = RANDOM.fullmatch(str(path))
    if random:
        if said or prefix is not None or architecture is not None:
            what = ", ".join(said) or ("prefix" if prefix is not None else "other architecture")
            raise BenchError(f"{path}: random weights have no {what} to declare; leave it out")
        return random_backbone(random[1], seed=int(random[2] or 0), name=name, work=work)
    path = Path(path)
    inspection, source = read_backbone(path, prefix=prefix, architecture=architecture)
    if inspection.problems:
        problems = "; ".join(inspection.problems)
        raise BenchError(f"{inspection.path}: {problems} (`densebench inspect` shows the table)")
    own_card = _own_card(inspection)
    if own_card is not None:
        data = inspection.path.read_bytes()
        card = _card(own_card.model_dump() | {"name": name} | said, data)
    else:
        data = serialized(_converted(inspection, source))
        facts = _defaults(str(inspection.architecture)) | {
            "name": name,
            "method": name,
            "pretraining": Pretraining.known(),
            "source": _source(inspection),
        }
        card = _card(facts | dict(inspection.input) | said, data)
    return _store(work, data, card, source, head_of(inspection))


def random_backbone(architecture_name: str, *, seed: int, name: str, work: Path) -> Path:
    """Write a randomly initialized backbone and its card; equal seeds give equal bytes.

    ResNets start as torchvision's: convolutions normal with variance 2 / fan-out (He et al. 2015), BatchNorm scale 1
    and shift 0, statistics mean 0 and variance 1; others as `build_backbone` makes them. (Another kind of CPU may round
    the normal values differently.)

    Raises:
        BenchError: unknown architecture, or the conditions of `import_checkpoint` on names and cards.
    """
    try:
        found = find_architecture(architecture_name)
    except PretrainError as error:
        raise BenchError(f"random:{architecture_name}: {error}") from error
    expected = architecture(architecture_name)
    if isinstance(found, ResNetArchitecture):
        generator = torch.Generator().manual_seed(seed)
        tensors = {key: _initial(key, shape, generator) for key, shape in expected.shapes.items()}
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tensors = build_backbone(architecture_name).state_dict()
    data = serialized(tensors)
    facts = _defaults(expected.name) | {
        "name": name,
        "method": RANDOM_METHOD,
        "pretraining": Pretraining.known(data="none", epochs=0, image_views=0, seed=seed, labels="none"),
        "source": Source(
            format="random initialisation",
            file=f"random:{architecture_name}:{seed}",
            sha256=hashlib.sha256(data).hexdigest(),
            key_prefix="",
        ),
    }
    card = _card(facts, data)
    return _store(work, data, card, tensors)


def _defaults(architecture_name: str) -> dict[str, Any]:
    """Default fields of a card of this architecture."""
    found = find_architecture(architecture_name)
    return _DEFAULTS | {"architecture": found.name, "mean": found.mean, "std": found.std}


def _initial(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if optional(key):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) == 4:
        weight = torch.empty(shape)
        return nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
    return torch.ones(shape) if key.endswith((".weight", ".running_var")) else torch.zeros(shape)


def _converted(inspection: Inspection, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's tensors by name, in the exported form."""
    return {
        row.name: convert(row.name, source[row.name])
        if row.status == "filled"
        else torch.zeros(row.shape, dtype=torch.int64)  # a BN counter that the file lacks
        for row in inspection.rows
    }


def _source(inspection: Inspection) -> Source:
    """The card's source. Names in an untrusted file may have any length and characters; they are made printable."""
    where = f", under {printable_name(inspection.location)}" if inspection.location else ""
    by = f"{inspection.written_by}: " if inspection.written_by else ""
    return Source(
        format=f"{by}{inspection.format} ({inspection.container}{where})",
        file=printable_name(inspection.path.name),
        sha256=inspection.sha256,
        key_prefix=printable_name(inspection.prefix),
    )


def _own_card(inspection: Inspection) -> Card | None:
    """The card next to a `backbone.safetensors`; its claims about the file are checked."""
    folder = inspection.path.parent
    file = folder / CARD
    if inspection.path.name != WEIGHTS or not file.is_file():
        return None
    foreign = [row.name for row in inspection.rows if row.dtype not in ("float32", "int64", None)]
    if inspection.prefix or foreign:
        raise BenchError(
            f"{inspection.path}: has a card but is no exported file (prefix {inspection.prefix!r}, "
            f"{len(foreign)} tensors that are not float32); remove {CARD} to import it as a foreign file"
        )
    card = read_exported(folder).card
    if card.parameters != inspection.parameters:
        raise BenchError(
            f"{file}: says {card.parameters} parameters, but {WEIGHTS} holds {inspection.parameters}; export again"
        )
    return card


def _card(facts: Mapping[str, Any], data: bytes) -> Card:
    """The card of the weights in `data`."""
    for key in ("mean", "std"):
        triple = facts[key]
        if not all(0 <= value <= 1 and (value or key == "mean") for value in triple):
            raise BenchError(
                f"{key} is {triple}: give values for pixel values in [0, 1]; divide those for 0-255 by 255"
            )
    return make_card(facts, hashlib.sha256(data).hexdigest())


def _store(work: Path, data: bytes, card: Card, source: Mapping[str, Tensor], head: bytes | None = None) -> Path:
    """Write all files and prove them, then move them into place in one step; or reuse an equal import."""
    checkpoints = work / "checkpoints"
    make_folder(checkpoints)
    with locked(checkpoints):
        return _store_alone(checkpoints, data, card, source, head)


def _store_alone(checkpoints: Path, data: bytes, card: Card, source: Mapping[str, Tensor], head: bytes | None) -> Path:
    """Do the work of `_store` while no other process imports into `checkpoints`."""
    folder, fresh = checkpoints / card.sha256[:12], checkpoints / f"{_FRESH}{card.sha256[:12]}"
    for left in checkpoints.glob(f"{_FRESH}*"):  # left by imports that were killed
        shutil.rmtree(left, ignore_errors=True)
    _refuse_taken_name(checkpoints, folder, card)
    if folder.exists():
        return _reuse(folder, card, head)
    try:
        fresh.mkdir()
        write_files(fresh, data, card, head=head)
        _prove(fresh, card, source)
        if head is not None and (fresh / HEAD).read_bytes() != head:
            raise BenchError(f"{fresh / HEAD}: the proof failed: is the disk faulty?")
        fresh.rename(folder)
    except OSError as error:
        raise BenchError(f"{folder}: cannot be written: {describe_os_error(error)}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _refuse_taken_name(checkpoints: Path, folder: Path, card: Card) -> None:
    for file in sorted(checkpoints.glob(f"[!.]*/{CARD}")):
        if file.parent != folder and read_card(file.parent).name == card.name:
            raise BenchError(
                f"the name {card.name!r} already stands for other weights in {file.parent}; choose another name, or "
                "remove that folder if it is out of date"
            )


def _reuse(folder: Path, card: Card, head: bytes | None) -> Path:
    there = read_card(folder)
    if file_sha256(folder / WEIGHTS) != card.sha256:
        raise BenchError(f"{folder / WEIGHTS}: was changed after its import; remove the folder and import again")
    different = contradictions(there, card)
    if different:
        raise BenchError(
            f"these weights are already in {folder} as {there.name!r}, with another card: {'; '.join(different)}. "
            "Use that card, or remove the folder and its results to import them again"
        )
    check_copies(folder, there, card)
    there_head = (folder / HEAD).read_bytes() if (folder / HEAD).is_file() else None
    if head is not None and head != there_head:
        if there_head is not None:
            raise BenchError(
                f"these weights are already in {folder} with another head: remove the folder to import them again, or "
                "use another work folder"
            )
        write_atomic(folder / HEAD, head)
    return folder


def _prove(folder: Path, card: Card, source: Mapping[str, Tensor]) -> None:
    """Read the files again: equal to the source bit for bit, complete, and loadable into a new network."""
    try:
        written = read_exported(folder)
        loaded = written.build().state_dict()
    except PretrainError as error:
        raise BenchError(f"the proof failed: {error}; is the disk full or faulty?") from error
    for name in architecture(card.architecture).shapes:
        wanted = convert(name, source[name]) if name in source else torch.zeros((), dtype=torch.int64)
        for where, tensor in (("file", written.tensors[name]), ("network", loaded[name])):
            if not same_bits(tensor, wanted):
                raise BenchError(f"{folder}: the proof failed: `{name}` in the new {where} differs from the source")
