"""Checkpoints that are a folder or several files: which file of a folder is used, and shards with their index.

The names are those of the Hugging Face libraries: `model.safetensors` or `pytorch_model.bin`, or the parts
`model-00001-of-00002.safetensors` ... with `model.safetensors.index.json`, which says where each tensor lies.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.checkpoints.storages import BeyondBoundsError, UnreadableError
from bench.errors import BenchError
from leaderboard.base.printable import printable_name
from pretrain.exported import WEIGHTS

INDEX = ".index.json"
"""Ending of an index's file name."""
DISTRIBUTED = ".metadata"
"""Name of the file that `torch.distributed.checkpoint` writes next to its `.distcp` files."""
MOST_INDEX = 64 * 2**20
"""Most bytes of an index, which holds only names."""
MOST_SHARDS = 1_000
_FIRST = (
    WEIGHTS,
    f"model.safetensors{INDEX}",
    "model.safetensors",
    f"pytorch_model.bin{INDEX}",
    "pytorch_model.bin",
    DISTRIBUTED,
)
"""File names in order of preference: a folder of the hub often holds the same weights twice."""
_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", ".npy", ".npz", ".torch")


def weights_of(folder: Path) -> Path:
    """The file of a folder that stands for the whole checkpoint.

    Raises:
        BenchError: there is no such file, or there are several.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError as error:
        raise BenchError(f"{folder}: cannot be read ({error.strerror})") from error
    found = [name for name in _FIRST if name in names][:1] or [name for name in names if name.endswith(_WEIGHTS)]
    if len(found) == 1:
        return folder / found[0]
    shown = ", ".join(map(printable_name, found[:4] or names[:4])) or "nothing"
    if found:
        raise BenchError(f"{folder}: a folder with {len(found)} checkpoints ({shown}): give one of them")
    if any(name.endswith(".distcp") for name in names):
        raise BenchError(f"{folder}: a folder of torch.distributed.checkpoint without its {DISTRIBUTED}; copy it again")
    raise BenchError(
        f"{folder}: a folder without {WEIGHTS}, model.safetensors or another checkpoint (it holds {shown}); "
        "give a file, a folder of the Hugging Face hub, or what `densebench export` wrote"
    )


def read_index(path: Path) -> dict[str, list[str]]:
    """The shards that an index names, and the tensors that it says are in each.

    Raises:
        UnreadableError: it is no such index, names a file outside its folder, or has too many.
        OSError: it cannot be read.
    """
    if path.stat().st_size > MOST_INDEX:
        raise BeyondBoundsError(f"an index of more than {MOST_INDEX / 2**20:.0f} MiB")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"the index of the shards is not valid JSON ({printable_name(error)})") from error
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise UnreadableError("the index of the shards has no `weight_map` from tensors to files")
    shards: dict[str, list[str]] = {}
    for tensor, name in places.items():
        if Path(name).name != name or "\0" in name or name == "..":
            raise UnreadableError(f"the index names a file outside its folder: {printable_name(name)}")
        shards.setdefault(name, []).append(tensor)
    if not shards or len(shards) > MOST_SHARDS:
        raise BeyondBoundsError(f"the index names {len(shards)} shards")
    return shards
