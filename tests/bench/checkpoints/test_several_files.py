"""Checkpoints of several files: shards with an index, folders of a hub, `torch.distributed.checkpoint`; numpy files."""

import io
import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from mutations import mutations
from safetensors.torch import save_file
from synthetic_nets import StateDict

from bench.checkpoints.containers import read_container
from bench.checkpoints.folders import weights_of
from bench.checkpoints.inspection import read_backbone
from bench.errors import BenchError

TENSORS = {"a.weight": torch.arange(300.0).reshape(3, 100), "b": torch.tensor(7), "c": torch.ones(2)}


def shards(folder: Path, state: StateDict, kind: str) -> Path:
    """Two shards and their index, as the Hugging Face libraries write them."""
    stem, end = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    names = list(state)
    places = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        file = f"{stem}-0000{number}-of-00002.{end}"
        tensors = {name: state[name].contiguous() for name in part}
        save_file(tensors, folder / file) if end == "safetensors" else torch.save(tensors, folder / file)
        places |= dict.fromkeys(part, file)
    index = folder / f"{stem}.{end}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("whole_folder", [True, False])
def test_shards_are_joined(tmp_path: Path, resnet18_state: StateDict, kind: str, whole_folder: bool) -> None:
    index = shards(tmp_path, resnet18_state, kind)
    (tmp_path / "config.json").write_text("{}")
    inspection, tensors = read_backbone(tmp_path if whole_folder else index)
    assert not inspection.problems
    assert inspection.path == index
    assert inspection.container == f"2 shards of {'safetensors' if kind == 'safetensors' else 'torch zip'}"
    assert inspection.bytes == sum(file.stat().st_size for file in tmp_path.iterdir()) - 2
    assert all(torch.equal(tensors[name], resnet18_state[name]) for name in resnet18_state)
    before = inspection.sha256
    other = index.parent / "model-00002-of-00002.safetensors"
    if kind == "safetensors":
        other.write_bytes(other.read_bytes()[:-1] + b"\0")
        assert read_backbone(index)[0].sha256 != before


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ({"a": "../../secret.safetensors"}, "outside its folder"),
        ({"a": "/etc/passwd"}, "outside its folder"),
        ({"a": ".."}, "outside its folder"),
        ({"a": "x\0y"}, "outside its folder"),
        ({"a": "absent.safetensors"}, "no such file"),
        ({"a": 3}, "no `weight_map`"),
        ({}, "0 shards"),
        ([], "no `weight_map`"),
        ({"a.weight": "good.safetensors", "d": "good.safetensors"}, "lacks 'd'"),
        ({"a.weight": "good.safetensors", "b": "same.safetensors"}, "another shard holds"),
    ],
)
def test_an_index_that_does_not_fit(tmp_path: Path, places: object, reason: str) -> None:
    for name in ("good", "same"):
        save_file(TENSORS, tmp_path / f"{name}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(BenchError, match=reason):
        read_container(tmp_path / "model.safetensors.index.json")


@pytest.mark.parametrize("text", ["{", "{}", '{"weight_map": ' + "[" * 100_000, '{"weight_map": {"a": "\\ud800"}}'])
def test_an_index_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(BenchError):
        read_container(tmp_path / "model.safetensors.index.json")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["pytorch_model.bin", "model.safetensors", "config.json"], "model.safetensors"),
        (["pytorch_model.bin", "pytorch_model.bin.index.json"], "pytorch_model.bin.index.json"),
        (["README.md", "last.ckpt"], "last.ckpt"),
        (["a.pth", "b.pth"], None),
        (["README.md"], None),
        (["__0_0.distcp"], None),
        ([], None),
    ],
)
def test_which_file_of_a_folder_counts(tmp_path: Path, names: list[str], chosen: str | None) -> None:
    for name in names:
        (tmp_path / name).touch()
    if chosen is not None:
        assert weights_of(tmp_path) == tmp_path / chosen
        return
    with pytest.raises(BenchError, match=r"with 2 checkpoints \(a\.pth, b\.pth\)|a folder without|its \.metadata"):
        weights_of(tmp_path)


def distributed(folder: Path, state: object) -> Path:
    """As `torch.distributed.checkpoint` writes it from one process."""
    dcp.save(state, checkpoint_id=folder, no_dist=True)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_distributed_checkpoints(tmp_path: Path) -> None:
    state = {"app": {"model": TENSORS, "lr": 0.1}, "step": 3, "half": torch.ones(3, dtype=torch.bfloat16)}
    container = read_container(distributed(tmp_path / "dcp", state) / ".metadata")
    assert container.kind == "torch.distributed.checkpoint"
    assert [file.name for file in container.parts] == ["__0_0.distcp"]
    assert container.leaves.keys() == {*(f"app.model.{name}" for name in TENSORS), "half"}
    assert all(torch.equal(container.leaves[f"app.model.{name}"].tensor, TENSORS[name]) for name in TENSORS)
    data = (tmp_path / "dcp" / "__0_0.distcp").read_bytes()
    (tmp_path / "dcp" / "__0_0.distcp").write_bytes(data[:-900])
    with pytest.raises(BenchError):
        read_container(tmp_path / "dcp" / ".metadata")
    (tmp_path / "dcp" / "__0_0.distcp").unlink()
    with pytest.raises(BenchError, match="cannot be read"):
        read_container(tmp_path / "dcp" / ".metadata")


@pytest.mark.filterwarnings("ignore")
def test_parts_of_one_tensor_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What several processes write, made by hand: rows 0 to 4 and 5 to 9 of a tensor lie in parts of their own."""
    from torch.distributed.checkpoint import metadata as meta
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    whole = torch.arange(30.0).reshape(10, 3)

    def write(starts: list[int]) -> Path:
        content, places = b"", {}
        for number, start in enumerate(starts):
            buffer = io.BytesIO()
            torch.save(whole[start : start + 5].clone(), buffer)
            index = meta.MetadataIndex("w", torch.Size((start, 0)), number)
            places[index] = _StorageInfo("__0_0.distcp", len(content), len(buffer.getvalue()))
            content += buffer.getvalue()
        chunks = [meta.ChunkStorageMetadata(torch.Size((start, 0)), torch.Size((5, 3))) for start in starts]
        tensors = {"w": meta.TensorStorageMetadata(meta.TensorProperties(torch.float32), whole.shape, chunks)}
        (tmp_path / "__0_0.distcp").write_bytes(content)
        with (tmp_path / ".metadata").open("wb") as file:
            pickle.dump(meta.Metadata(tensors, None, places), file)
        return tmp_path / ".metadata"

    assert torch.equal(read_container(write([5, 0])).leaves["w"].tensor, whole)
    for starts in ([0], [0, 3], [0, 0], [0, 6]):
        with pytest.raises(BenchError, match=r"do not fill|overlap"):
            read_container(write(starts))


def npy(tree: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, tree, allow_pickle=True)  # type: ignore[arg-type]
    return buffer.getvalue()


def npz(tree: dict[str, Any], *, compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **tree)
    return buffer.getvalue()


ARRAYS = {
    "res/conv": {"w": np.arange(24, dtype=">f4").reshape(1, 2, 3, 4)},
    "other": {"n": np.ones((2, 3), order="F")},
}
FLAT = {"res/conv/w": ARRAYS["res/conv"]["w"], "other/n": ARRAYS["other"]["n"]}


@pytest.mark.parametrize("data", [npy(ARRAYS), npz({"params": ARRAYS}), npz(FLAT), npz(FLAT, compressed=True)])
def test_numpy_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "arrays.npy").write_bytes(data)
    leaves = read_container(tmp_path / "arrays.npy").leaves
    for array, leaf in zip(FLAT.values(), leaves.values(), strict=True):
        assert leaf.tensor.tolist() == array.tolist()


def test_an_array_alone(tmp_path: Path) -> None:
    (tmp_path / "one.npy").write_bytes(npy(np.arange(6.0).reshape(2, 3)))
    (leaf,) = read_container(tmp_path / "one.npy").leaves.values()
    assert leaf.tensor.tolist() == [[0, 1, 2], [3, 4, 5]]


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return exec, ("raise AssertionError('it was run')",)


def test_code_in_numpy_files_is_not_run(tmp_path: Path) -> None:
    for data in (npy({"w": np.ones(2), "trap": Trap()}), npz({"trap": np.array(Trap(), dtype=object)})):
        (tmp_path / "trap.npy").write_bytes(data)
        with pytest.raises(BenchError, match=r"refused.*builtins\.exec"):
            read_container(tmp_path / "trap.npy")


def test_arrays_that_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.checkpoints.numpy_files.MOST_BYTES", 2**12)
    for name, data in (("a.npz", npz({"a": np.zeros(2000)}, compressed=True)), ("a.npy", npy(np.zeros(2000)))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BenchError, match="more than"):
            read_container(tmp_path / name)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_end_in_words(tmp_path: Path) -> None:
    """Bytes are changed, removed and added: the right arrays, other arrays, or an error in words; never a traceback."""
    folder = distributed(tmp_path / "dcp", TENSORS)
    index = shards(tmp_path, {k: v.expand(1) if v.ndim == 0 else v for k, v in TENSORS.items()}, "safetensors")
    targets: list[tuple[Path, Path]] = [(folder / ".metadata", folder / ".metadata"), (index, index)]
    targets.append((folder / "__0_0.distcp", folder / ".metadata"))
    paths = {"res/~/conv_0": ARRAYS["res/conv"], "res/~/norm_0/~/mean_ema": {"average": np.ones((1, 1, 1, 2))}}
    pickles = [pickle.dumps({"online_params": paths, "model": ARRAYS}, protocol) for protocol in (2, 4)]
    for number, data in enumerate((npy(ARRAYS), npz(FLAT), npz({"params": ARRAYS}, compressed=True), *pickles)):
        path = tmp_path / f"{number}.npy"
        path.write_bytes(data)
        targets.append((path, path))
    for seed in range(mutations(60)):
        draw = random.Random(seed)
        changed, opened = targets[seed % len(targets)]
        good = changed.read_bytes()
        data = bytearray(good)
        for _ in range(draw.choice([1, 1, 3, 20])):
            at = draw.randrange(max(len(data), 1))
            kind = draw.randrange(3)
            if kind == 0 and data:
                data[at] ^= 1 << draw.randrange(8)
            elif kind == 1:
                data[at : at + draw.randrange(1, 40)] = draw.randbytes(draw.randrange(40))
            else:
                del data[max(at, 1) :]
        changed.write_bytes(data)
        try:
            read_container(opened)
        except BenchError as error:
            assert str(error).count("\n") < 3
            assert len(str(error)) < 4001
        finally:
            changed.write_bytes(good)
