"""Read the tensors of a stranger's file without running any of its code.

Three containers are read: safetensors, the zip files that `torch.save` writes since PyTorch 1.6, and the older torch
pickles. Pickles go through `torch.load(weights_only=True)`, which builds tensors and plain values and refuses
everything else. Damaged and foreign files end in a `BenchError` that says what the file is instead.
"""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.errors import BenchError

_NUMPY_SCALAR: Any = np.float64(0).__reduce__()[0]
"""The function that rebuilds a numpy number; older files name it differently."""
_HARMLESS_CLASSES: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    # Training checkpoints of DINO, PixPro, SlotCon ... carry their command line and numpy numbers beside the weights.
    # These classes only hold data: building one runs no code of the file.
    argparse.Namespace,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
]

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights: run `git lfs pull` where it was cloned"),
    (b"<!DOCTYPE", "a web page, not weights: the download gave an error or a consent page"),
    (b"<html", "a web page, not weights: the download gave an error or a consent page"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed with xz: unpack it first"),
    (b"\x93NUMPY", "a numpy array file; JAX/Haiku .npy checkpoints are not supported: convert it to safetensors first"),
    (b"\x89HDF", "an HDF5 file (Keras); only PyTorch weights are supported"),
)
_LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""A pickled integer that opens every file of `torch.save` before PyTorch 1.6."""


@dataclass(frozen=True)
class Leaf:
    """One tensor of the file: `location` is the path of dictionaries around it, `key` its key in the innermost."""

    location: str
    key: str
    tensor: Tensor

    @property
    def name(self) -> str:
        """Location and key joined by a dot: unique within the file."""
        return f"{self.location}.{self.key}" if self.location else self.key


@dataclass(frozen=True)
class Container:
    """The tensors of one file, in the order of the file."""

    path: Path
    kind: str
    leaves: dict[str, Leaf]
    """By `Leaf.name`."""
    top_level: tuple[str, ...]
    """Keys of the outermost dictionary, for messages."""


def read_container(path: Path) -> Container:
    """The tensors in `path`, on the CPU, memory-mapped where the container allows it; nothing is executed or written.

    Raises:
        BenchError: the file is missing, empty, truncated, of another kind, holds code, or holds no tensor.
    """
    if not path.exists():
        raise BenchError(f"{path}: there is no such file")
    if not path.is_file():
        raise BenchError(f"{path}: not a file; give a checkpoint file or a folder that `densebench export` wrote")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise BenchError(f"{path}: the file is empty (0 bytes): download or copy it again")
    for signature, meaning in _SIGNATURES:
        if head.lstrip()[: len(signature)].lower() == signature.lower():
            raise BenchError(f"{path}: {meaning}")
    if head.startswith(b"PK\x03\x04"):
        kind, tree = "torch zip", _read_zip(path)
    elif head[0] == 0x80 and len(head) > 1 and head[1] <= 5:
        kind, tree = "torch legacy", _read_legacy(path, head)
    elif head[8:9] == b"{" or path.suffix == ".safetensors":
        kind, tree = "safetensors", _read_safetensors(path)
    else:
        raise BenchError(
            f"{path}: not a checkpoint: it is neither safetensors nor a file of torch.save (first bytes {head[:8]!r})"
        )
    top_level = tuple(str(key) for key in tree) if isinstance(tree, Mapping) else ()
    leaves: dict[str, Leaf] = {}
    for leaf in _walk(tree):
        if leaf.name in leaves:
            raise BenchError(f"{path}: two tensors have the name {leaf.name!r}: which one counts cannot be known")
        leaves[leaf.name] = leaf
    if not leaves:
        what = f"its keys are {', '.join(top_level[:8])}" if top_level else f"it holds {_describe(tree)}"
        raise BenchError(f"{path}: holds no tensor ({what}): the state dict is empty or was not saved")
    return Container(path, kind, leaves, top_level)


def _walk(tree: object) -> Iterator[Leaf]:
    """All tensors below `tree`, depth first; a pickle may contain itself, so each container is entered once."""
    entered: set[int] = set()
    stack: list[tuple[str, str, object]] = [("", "", tree)]
    while stack:
        location, key, value = stack.pop()
        if isinstance(value, Tensor):
            yield Leaf(location, key, value.detach())
            continue
        if isinstance(value, Mapping):
            items = [(str(name), item) for name, item in value.items()]
        elif isinstance(value, list | tuple):
            items = [(str(index), item) for index, item in enumerate(value)]
        else:
            continue
        if id(value) in entered:
            continue
        entered.add(id(value))
        inside = f"{location}.{key}" if location else key
        stack.extend((inside, name, item) for name, item in reversed(items))


def _describe(tree: object) -> str:
    if isinstance(tree, Mapping | list | tuple):
        return f"an empty {type(tree).__name__}"
    return f"a {type(tree).__name__}"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise BenchError(
            f"{path}: not a whole safetensors file, truncated or damaged ({error}); download or copy it again"
        ) from error


def _read_zip(path: Path) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BenchError(
            f"{path}: truncated or damaged: the archive's directory at its end is missing; download or copy it again"
        ) from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise BenchError(
            f"{path}: a TorchScript program, which is code; save `model.state_dict()` of it as safetensors instead"
        )
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        example = ", ".join(names[:3]) or "nothing"
        raise BenchError(f"{path}: a zip archive, but not one of torch.save (it holds {example})")
    return _torch_load(path, mmap=True)


def _read_legacy(path: Path, head: bytes) -> object:
    if not head.startswith(_LEGACY_TORCH[: len(head)]):
        raise BenchError(
            f"{path}: refused: a plain Python pickle, not a file of torch.save. A pickle can run code, so nothing of "
            "it was run; ask for safetensors or re-save the weights with torch.save(state_dict)"
        )
    return _torch_load(path, mmap=False)


def _torch_load(path: Path, *, mmap: bool) -> object:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS_CLASSES):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error})") from error
    except Exception as error:
        # A damaged file fails anywhere inside the reader (EOFError, KeyError, struct.error, ...): all mean the same.
        blocked = re.search(r"GLOBAL (\S+)", str(error))
        if blocked:
            cut = "" if mmap else " (or the file is cut off inside that name)"
            raise BenchError(
                f"{path}: refused: the pickle wants to use the Python object `{blocked[1]}`, which is not weights and "
                f"could run code{cut}. Nothing of it was run; ask for safetensors or re-save with "
                "torch.save(model.state_dict())"
            ) from error
        if "legacy .tar" in str(error):
            raise BenchError(f"{path}: a torch file of before 2017 (tar); load and re-save it with PyTorch") from error
        last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        detail = last[0] if len(last[0]) <= 160 and "http" not in last[0] else type(error).__name__
        raise BenchError(f"{path}: truncated or damaged ({detail}); download or copy it again") from error
