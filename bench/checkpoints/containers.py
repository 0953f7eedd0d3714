"""Read the tensors of an untrusted file without running any of its code.

It reads safetensors, the two kinds of files of `torch.save`, plain pickles of numpy arrays, numpy's `.npy` and `.npz`,
and checkpoints of several files (see `folders` and `distributed`). No pickle is ever unpickled (see `pickles`).
Damaged and other files raise a `BenchError` that says what the file is instead, and so do files beyond the limits
below, which exist so that no file can keep the reader busy.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.checkpoints.distributed import read_distributed
from bench.checkpoints.folders import DISTRIBUTED, INDEX, read_index
from bench.checkpoints.haiku import NOTES as HAIKU_NOTES
from bench.checkpoints.haiku import as_pytorch, is_haiku, renamed
from bench.checkpoints.numpy_files import read_npy
from bench.checkpoints.pickles import ForbiddenError
from bench.checkpoints.storages import BeyondBoundsError, NumpyArray, Odd, Stored, UnreadableError
from bench.checkpoints.torch_files import NoTorchZipError, TorchFile, read_pickles, read_zip
from bench.errors import BenchError
from leaderboard.base.files import file_sha256
from leaderboard.base.printable import printable, printable_name

T = TypeVar("T")
MOST_TENSORS = 100_000
LONGEST_NAME = 1_000
"""Most characters of a tensor's name."""
DEEPEST = 60
"""Most containers around a tensor."""

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights: run `git lfs pull` where it was cloned"),
    (b"<!DOCTYPE", "a web page, not weights: the download gave an error or a consent page"),
    (b"<html", "a web page, not weights: the download gave an error or a consent page"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed with xz: unpack it first"),
    (b"\x89HDF", "an HDF5 file (Keras); only PyTorch weights are supported"),
)


@dataclass(frozen=True)
class Leaf:
    """One tensor of the file: `location` is the path of dictionaries around it, `key` its key in the innermost."""

    location: str
    key: str
    tensor: Tensor
    odd: str | None = None
    """Why the tensor has no usable values (sparse, quantized ...); `tensor` is then empty. None if it has values."""

    @property
    def name(self) -> str:
        """Name of the tensor, unique within the file: location and key joined by a dot."""
        return f"{self.location}.{self.key}" if self.location else self.key


@dataclass(frozen=True)
class Container:
    """The tensors of one file, in the order of the file."""

    path: Path
    kind: str
    leaves: dict[str, Leaf]
    """The tensors by `Leaf.name`."""
    top_level: tuple[str, ...]
    """Keys of the outermost dictionary, for messages."""
    notes: tuple[str, ...] = ()
    parts: tuple[Path, ...] = ()
    """The other files of a checkpoint that consists of several."""

    @property
    def bytes(self) -> int:
        """Size of all files of the checkpoint."""
        return sum(file.stat().st_size for file in (self.path, *self.parts))

    def sha256(self) -> str:
        """SHA-256 of the file; for several files, that of the text which `sha256sum` prints for them."""
        if not self.parts:
            return file_sha256(self.path)
        lines = [f"{file_sha256(file)}  {file.name}\n" for file in (self.path, *self.parts)]
        return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def read_container(path: Path) -> Container:
    """The tensors in `path`, on the CPU, memory-mapped where the container allows it; nothing is executed or written.

    Raises:
        BenchError: the file is missing, empty, truncated, damaged, of another kind, names code, holds no tensor, or is
            beyond the limits.
    """
    kind, found, parts = _read(path)
    tree = found.tree
    top_level = tuple(_key(key) for key in list(tree)[:100]) if isinstance(tree, Mapping) else ()
    notes = found.notes
    try:
        leaves = _by_name(_walk(tree))
        if is_haiku(leaves):
            leaves = _by_name(Leaf(*renamed(name), as_pytorch(leaf.tensor), leaf.odd) for name, leaf in leaves.items())
            notes += HAIKU_NOTES
    except (BenchError, BeyondBoundsError) as error:
        raise BenchError(f"{path}: {error}") from error
    except UnreadableError as error:
        raise BenchError(f"{path}: truncated or damaged ({error}); download or copy it again") from error
    if not leaves:
        keys = ", ".join(map(printable_name, top_level[:8]))
        what = f"its keys are {keys}" if top_level else f"it holds {_describe(tree)}"
        raise BenchError(f"{path}: holds no tensor ({what}): the state dict is empty or was not saved")
    return Container(path, kind, leaves, top_level, notes, parts)


def _read(path: Path) -> tuple[str, TorchFile, tuple[Path, ...]]:
    """Kind and content of a checkpoint, and its other files if it has several."""
    head = _head(path)
    if path.name == DISTRIBUTED:
        folder = f"{path.parent} (a folder of torch.distributed.checkpoint)"
        tensors, parts = _guarded(folder, lambda: read_distributed(path))
        return "torch.distributed.checkpoint", TorchFile(tensors), parts
    if head.startswith(b"{") and path.name.endswith(INDEX):
        return _shards(path)
    return *_read_file(path, head), ()


def _read_file(path: Path, head: bytes) -> tuple[str, TorchFile]:
    for signature, meaning in _SIGNATURES:
        if head.lstrip()[: len(signature)].lower() == signature.lower():
            raise BenchError(f"{path}: {meaning}")
    if head.startswith(b"\x93NUMPY"):
        return "numpy array", TorchFile(_guarded(path, lambda: read_npy(path)))
    if head.startswith(b"PK\x03\x04"):
        found = _guarded(path, lambda: read_zip(path))
        return "numpy arrays (npz)" if found.plain else "torch zip", found
    if (head[0] == 0x80 and len(head) > 1 and head[1] <= 5) or path.suffix in (".pkl", ".pickle"):
        found = _guarded(path, lambda: read_pickles(path))
        return "pickle of numpy arrays" if found.plain else "torch legacy", found
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return "safetensors", TorchFile(_read_safetensors(path))
    raise BenchError(
        f"{path}: not a checkpoint: it is neither safetensors nor a file of torch.save (first bytes {head[:8]!r})"
    )


def _shards(path: Path) -> tuple[str, TorchFile, tuple[Path, ...]]:
    """The tensors of all shards that the index at `path` names; each shard must hold what the index says."""
    shards = _guarded(path, lambda: read_index(path))
    tree: dict[object, object] = {}
    kinds, notes, parts = set(), [], []
    for name, tensors in shards.items():
        part = path.parent / name
        kind, found = _read_file(part, _head(part))
        inside = found.tree if isinstance(found.tree, Mapping) else {}
        if lacking := [tensor for tensor in tensors if tensor not in inside]:
            raise BenchError(f"{part}: lacks {printable_name(lacking[0])!r}, which {path.name} says is there")
        if twice := [tensor for tensor in inside if tensor in tree]:
            raise BenchError(f"{part}: holds {printable_name(_key(twice[0]))!r}, which another shard holds, too")
        tree.update(inside)
        kinds.add(kind)
        notes += [note for note in found.notes if note not in notes]
        parts.append(part)
    return f"{len(parts)} shards of {' and '.join(sorted(kinds))}", TorchFile(tree, tuple(notes)), tuple(parts)


def _head(path: Path) -> bytes:
    try:
        if not path.exists():
            raise BenchError(f"{path}: there is no such file")
        if not path.is_file():
            raise BenchError(f"{path}: not a file; give a checkpoint file or a folder that `densebench export` wrote")
        with path.open("rb") as file:
            head = file.read(64)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not head:
        raise BenchError(f"{path}: the file is empty (0 bytes): download or copy it again")
    return head


def _by_name(found: Iterable[Leaf]) -> dict[str, Leaf]:
    leaves: dict[str, Leaf] = {}
    for leaf in found:
        if leaf.name in leaves:
            raise BenchError(f"two tensors have the name {printable_name(leaf.name)!r}: which one counts is not known")
        if len(leaf.name) > LONGEST_NAME:
            raise BenchError(
                f"the name {printable_name(leaf.name)!r} of a tensor has {len(leaf.name)} characters: that is none"
            )
        leaves[leaf.name] = leaf
        if len(leaves) > MOST_TENSORS:
            raise BenchError(f"holds more than {MOST_TENSORS:,} tensors: no checkpoint of a network does")
    return leaves


def _walk(tree: object) -> Iterator[Leaf]:
    """All tensors below `tree`, depth first; a pickle may contain itself, so each container is entered once."""
    entered: set[int] = set()
    stack: list[tuple[str, str, object, int]] = [("", "", tree, 0)]
    while stack:
        location, key, value, depth = stack.pop()
        if isinstance(value, Tensor):
            yield Leaf(location, key, value.detach())
            continue
        if isinstance(value, NumpyArray) and value.objects is not None:
            value = value.objects
        if isinstance(value, Stored | NumpyArray | Odd):
            tensor = value if isinstance(value, Odd) else value.tensor()
            if isinstance(tensor, Odd):
                yield Leaf(location, key, torch.empty(0, device="meta"), tensor.what)
            elif tensor is not None:
                yield Leaf(location, key, tensor)
            continue
        if isinstance(value, Mapping):
            items = [(_key(name), item) for name, item in value.items()]
        elif isinstance(value, list | tuple):
            items = [(str(index), item) for index, item in enumerate(value)]
        else:
            continue
        if id(value) in entered:
            continue
        entered.add(id(value))
        if depth > DEEPEST or len(location) + len(key) > LONGEST_NAME:
            raise BenchError(
                f"dictionaries or lists lie in each other more than {DEEPEST} deep: no checkpoint does that"
            )
        inside = f"{location}.{key}" if location else key
        stack.extend((inside, name, item, depth + 1) for name, item in reversed(items))


def _key(key: object) -> str:
    """A dictionary's key as part of a tensor's name."""
    if isinstance(key, str):
        return key
    if isinstance(key, int | float | None) and not (isinstance(key, int) and key.bit_length() > 64):
        return str(key)
    return f"({type(key).__name__.strip('_')})"


def _describe(tree: object) -> str:
    if isinstance(tree, Mapping | list | tuple):
        return f"{'an empty' if not tree else 'a'} {type(tree).__name__.lower()}"
    return f"a {type(tree).__name__.strip('_').lower()}"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as tensors:
            names = list(tensors.keys())
            if len(names) > MOST_TENSORS:
                raise BenchError(f"{path}: holds more than {MOST_TENSORS:,} tensors: no checkpoint of a network does")
            return {name: tensors.get_tensor(name) for name in names}
    except BenchError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise BenchError(
            f"{path}: not a whole safetensors file, truncated or damaged ({printable(error, 160)}); "
            "download or copy it again"
        ) from error


def _guarded(path: Path | str, read: Callable[[], T]) -> T:
    """Return what `read` returns; turn its failures into errors that say what is wrong with the file."""
    try:
        return read()
    except NoTorchZipError as error:
        raise BenchError(f"{path}: {error}") from error
    except ForbiddenError as error:
        model = str(error).startswith("torch.nn.modules.")
        what = "a whole pickled model, which" if model else "the pickle"
        raise BenchError(
            f"{path}: refused: {what} names the Python object `{printable_name(error)}`, which is not weights and "
            "could run code. Nothing of it was run; ask for safetensors or re-save with torch.save(model.state_dict())"
        ) from error
    except BeyondBoundsError as error:
        raise BenchError(f"{path}: {error}") from error
    except UnreadableError as error:
        raise BenchError(f"{path}: truncated or damaged ({error}); download or copy it again") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BenchError(
            f"{path}: truncated or damaged: the archive's directory at its end is missing; download or copy it again"
        ) from error
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror or error})") from error
