"""Reads folders that `torch.distributed.checkpoint` writes: FSDP, torchtitan, Lightning with sharded state.

`.metadata` is a pickle that says which part of which tensor lies where in the `.distcp` files; each part is a file of
`torch.save` inside them. The parts are put together again, and each value must come from exactly one part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from bench.checkpoints.folders import MOST_SHARDS
from bench.checkpoints.pickles import Record, read_pickle
from bench.checkpoints.storages import BeyondBoundsError, Stored, UnreadableError
from bench.checkpoints.torch_files import MOST_PICKLE, read_zip
from leaderboard.base.printable import printable_name


def read_distributed(metadata: Path) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """The tensors of the folder in which `metadata` lies, by name, and its other files.

    Raises:
        UnreadableError, ForbiddenError, NoTorchZipError: as for `read_zip`; or the parts do not make up the tensors.
        OSError: a file cannot be read.
    """
    if metadata.stat().st_size > MOST_PICKLE:
        raise BeyondBoundsError(f"its .metadata has more than {MOST_PICKLE / 2**20:.0f} MiB")
    with metadata.open("rb") as file:
        top = _fields(read_pickle(file))
    parts: dict[str, list[tuple[Any, Mapping[Any, Any]]]] = {}
    for index, place in _mapping(top.get("storage_data")).items():
        key = _fields(index)
        parts.setdefault(str(key.get("fqn")), []).append((key.get("offset"), _fields(place)))
    names = {str(place.get("relative_path")) for places in parts.values() for _, place in places}
    if len(names) > MOST_SHARDS:
        raise BeyondBoundsError(f"its .metadata names {len(names)} files")
    if wrong := [name for name in names if Path(name).name != name or "\0" in name]:
        raise UnreadableError(f".metadata names a file outside its folder: {printable_name(wrong[0])}")
    tensors = {}
    for name, description in _mapping(top.get("state_dict_metadata")).items():
        if isinstance(description, Record) and description.name.endswith(".TensorStorageMetadata"):
            tensors[str(name)] = _whole(metadata.parent, str(name), description, parts.get(str(name), []))
    return tensors, tuple(metadata.parent / name for name in sorted(names))


def _whole(folder: Path, name: str, description: Record, parts: list[tuple[Any, Mapping[Any, Any]]]) -> Tensor:
    """One tensor, joined from its parts: they have as many values as its shape, none twice, so none is missing."""
    shape = description.fields.get("size")
    if not _is_shape(shape):
        raise UnreadableError(f"{printable_name(name)} has no size in .metadata")
    found = [(offset, _part(folder, place)) for offset, place in parts]
    if math.prod(shape) != sum(part.numel() for _, part in found):
        raise UnreadableError(f"the parts of {printable_name(name)} do not fill its shape {shape}")
    whole: Tensor | None = None
    missing = torch.ones(shape, dtype=torch.bool)
    for offset, part in found:
        start = (0,) * len(shape) if offset is None else offset
        if not _is_shape(start) or not len(start) == part.ndim == len(shape):
            raise UnreadableError(f"a part of {printable_name(name)} has another number of dimensions")
        at = tuple(slice(first, first + count) for first, count in zip(start, part.shape, strict=True))
        if missing[at].shape != part.shape or not missing[at].all():
            raise UnreadableError(f"the parts of {printable_name(name)} overlap or lie outside it")
        missing[at] = False
        whole = torch.empty(shape, dtype=part.dtype) if whole is None else whole
        whole[at] = part
    if whole is None:
        raise UnreadableError(f"{printable_name(name)} has no parts in .metadata")
    return whole


def _part(folder: Path, place: Mapping[Any, Any]) -> Tensor:
    path, offset, length = folder / str(place.get("relative_path")), place.get("offset"), place.get("length")
    if type(offset) is not int or type(length) is not int or offset < 0 or not 0 < length <= path.stat().st_size:
        raise UnreadableError(f"{printable_name(path.name)} is shorter than .metadata says")
    with path.open("rb") as file:
        file.seek(offset)
        found = read_zip(file.read(length)).tree
    tensor = found.tensor() if isinstance(found, Stored) else None
    if not isinstance(tensor, Tensor) or tensor.numel() > length:  # the same bytes may not count as many values
        raise UnreadableError(f"{printable_name(path.name)} holds something else than a tensor where one should be")
    return tensor


def _is_shape(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and all(type(n) is int and n >= 0 for n in value)


def _fields(record: object) -> Mapping[Any, Any]:
    if not isinstance(record, Record):
        raise UnreadableError("its .metadata was not written by torch.distributed.checkpoint")
    return record.fields


def _mapping(value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise UnreadableError("its .metadata lists no tensors")
    return value
