import argparse
import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bench.checkpoints.containers import read_container
from bench.errors import BenchError

TENSORS = {"a.weight": torch.arange(300.0).reshape(3, 100), "b": torch.tensor(7)}


class RunsCode:
    """Unpickling it with Python's own `pickle` creates the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture(params=["safetensors", "torch zip", "torch legacy"])
def good_file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    path = tmp_path / "good.bin"
    if request.param == "safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=request.param == "torch zip")
    return request.param, path


def test_reads_each_container(good_file: tuple[str, Path]) -> None:
    kind, path = good_file
    before = path.read_bytes(), sorted(path.parent.iterdir())
    container = read_container(path)
    assert container.kind == kind
    assert container.leaves.keys() == TENSORS.keys()
    assert all(torch.equal(container.leaves[name].tensor, TENSORS[name]) for name in TENSORS)
    assert (path.read_bytes(), sorted(path.parent.iterdir())) == before


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_truncated_files_are_refused(good_file: tuple[str, Path], share: float) -> None:
    _, path = good_file
    data = path.read_bytes()
    path.write_bytes(data[: min(int(len(data) * share), len(data) - 1)])
    with pytest.raises(BenchError, match=re.escape(str(path)) + ".*(truncated|damaged|not a checkpoint|cut off)"):
        read_container(path)


def test_every_cut_of_a_small_file_is_refused(good_file: tuple[str, Path]) -> None:
    """Whatever the reader was doing when the bytes ended, its failure arrives as one readable error."""
    _, path = good_file
    data = path.read_bytes()
    for size in range(0, len(data) - 1, max(1, len(data) // 60)):
        path.write_bytes(data[:size])
        with pytest.raises(BenchError):
            read_container(path)


def test_empty_file_and_missing_file(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    with pytest.raises(BenchError, match="empty"):
        read_container(tmp_path / "empty.pth")
    with pytest.raises(BenchError, match="no such file"):
        read_container(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\n<!doctype html><html>Quota exceeded", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"\x1f\x8b\x08\x00 compressed", "gzip"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "header of a numpy array"),
        (b"hello, I am a text file", "not a checkpoint"),
        (b"\x00" * 100, "not a checkpoint"),
        (b"\xff" * 8 + b"{", "truncated"),
        (b"\x02" + b"\x00" * 7 + b"{]", "not a whole safetensors file"),
    ],
)
def test_other_files_say_what_they_are(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=reason):
        read_container(path)


def test_a_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", "text")
    with pytest.raises(BenchError, match=r"not one of torch\.save \(it holds notes\.txt\)"):
        read_container(tmp_path / "notes.zip")


@pytest.mark.parametrize("container", ["torch zip", "torch legacy", "pickle 2", "pickle 4"])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, container: str) -> None:
    trap = tmp_path / "trap-was-sprung"
    payload = {"state_dict": TENSORS, "extra": RunsCode(trap)}
    path = tmp_path / "malicious.pth"
    if container.startswith("torch"):
        torch.save(payload, path, _use_new_zipfile_serialization=container == "torch zip")
    else:
        path.write_bytes(pickle.dumps(payload, protocol=int(container[-1])))
    what = r"(posix|nt)\.system" if container.startswith("torch") else r"torch\.storage\._load_from_bytes"
    with pytest.raises(
        BenchError, match=rf"{re.escape(str(path))}: refused.*{what}.*othing of it was run.*safetensors"
    ):
        read_container(path)
    assert not trap.exists()
    buffer = io.BytesIO(pickle.dumps(RunsCode(trap)))
    pickle.load(buffer)  # the trap is real: plain unpickling springs it
    assert trap.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(BenchError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read_container(tmp_path / "model.pth")


def test_command_line_and_numpy_figures_beside_the_weights_are_harmless(tmp_path: Path) -> None:
    extra = {"args": argparse.Namespace(lr=0.1), "best": np.float64(71.1), "step": np.int64(3)}
    torch.save({"model": TENSORS, **extra}, tmp_path / "training.pth")
    container = read_container(tmp_path / "training.pth")
    assert list(container.leaves) == ["model.a.weight", "model.b"]
    assert container.top_level == ("model", "args", "best", "step")


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"epoch": 3, "state_dict": {}}, [], 3])
def test_no_tensor_is_an_error(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "hollow.pth")
    with pytest.raises(BenchError, match="holds no tensor"):
        read_container(tmp_path / "hollow.pth")


def test_an_empty_safetensors_file_is_an_error(tmp_path: Path) -> None:
    save_file({}, tmp_path / "hollow.safetensors")
    with pytest.raises(BenchError, match="holds no tensor"):
        read_container(tmp_path / "hollow.safetensors")


def test_a_dictionary_that_contains_itself_ends(tmp_path: Path) -> None:
    loop: dict[str, object] = {"a": torch.zeros(2)}
    loop["self"] = loop
    torch.save(loop, tmp_path / "loop.pth")
    assert list(read_container(tmp_path / "loop.pth").leaves) == ["a"]


def test_two_tensors_of_one_name_are_an_error(tmp_path: Path) -> None:
    torch.save({"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}}, tmp_path / "clash.pth")
    with pytest.raises(BenchError, match=r"two tensors have the name 'a\.b'"):
        read_container(tmp_path / "clash.pth")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not a file"):
        read_container(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_views_types_and_parameters_are_read_as_pytorch_reads_them(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(64.0).reshape(8, 8)
    tree = {str(kind): base.to(kind) for kind in (torch.bfloat16, torch.float64, torch.uint8, torch.bool)}
    tree |= {"transposed": base.t(), "part": base[2:5, 1::2], "shared": base, "row": base[3], "empty": base[:0]}
    tree |= {"expanded": torch.ones(1).expand(3, 4), "scalar": torch.tensor(3), "complex": base.to(torch.complex64)}
    tree |= {"parameter": torch.nn.Parameter(base.clone()), "buffer": torch.nn.Buffer(base[0])}
    if zipped:  # in the old form PyTorch cannot read this type itself
        tree["uint16"] = base.to(torch.uint16)
    torch.save(tree, tmp_path / "kinds.pth", _use_new_zipfile_serialization=zipped)
    expected = torch.load(tmp_path / "kinds.pth", weights_only=True)
    leaves = read_container(tmp_path / "kinds.pth").leaves
    assert leaves.keys() == expected.keys()
    for name, tensor in expected.items():
        found = leaves[name].tensor
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
        assert found.tolist() == tensor.tolist(), name
