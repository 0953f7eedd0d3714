"""What people have and what may be sent to them: other packings, data beside the weights, damage, bombs."""

import argparse
import datetime
import io
import os
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors_bytes
from synthetic_nets import StateDict, with_prefix

from bench.checkpoints import import_checkpoint, inspect_checkpoint
from bench.checkpoints.containers import read_container
from bench.checkpoints.inspection import read_backbone
from bench.checkpoints.torch_files import MOST_INFLATED, MOST_PICKLE
from bench.errors import BenchError
from leaderboard.base.printable import STEERING
from pretrain.exported import read_card
from tests.mutations import mutations

Save = Callable[..., Path]
SMALL = {"a": torch.arange(300.0), "b": torch.ones(4)}


def packed(source: Path, target: Path, method: int, root: str) -> Path:
    """The archive `source` unpacked and packed again."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in old.namelist():
            new.writestr(root + name.partition("/")[2], old.read(name))
    return target


def archive(path: Path, tree: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("a/data.pkl", tree)
        for name, data in members.items():
            new.writestr(f"a/{name}", data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("root", ["other name/", "", "one/two/"])
def test_an_archive_that_was_packed_again(save: Save, tmp_path: Path, method: int, root: str) -> None:
    leaves = read_container(packed(save(SMALL), tmp_path / "again.pth", method, root)).leaves
    assert all(torch.equal(leaves[name].tensor, SMALL[name]) for name in SMALL)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_changed_bit_is_found_and_its_member_named(save: Save, tmp_path: Path, method: int) -> None:
    path = packed(save(SMALL), tmp_path / "again.pth", method, "a/")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as opened:
        member = opened.getinfo("a/data/0")
    data[member.header_offset + 30 + len("a/data/0") + member.compress_size // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(BenchError, match=r"damaged \(.*a/data/0"):
        read_container(path)


def test_an_archive_without_checksums_is_read_and_said(tmp_path: Path, resnet18_state: StateDict) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(resnet18_state, tmp_path / "net.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    inspection = inspect_checkpoint(tmp_path / "net.pth")
    assert not inspection.problems
    assert any("no checksums" in note for note in inspection.notes)


BESIDE = {
    "numbers": {"a": np.bool_(True), "b": np.int32(3), "c": np.float64(0.5), "d": np.float16(1)},
    "random states": {"n": np.random.RandomState(0).get_state(), "p": random.getstate(), "t": torch.get_rng_state()},
    "generator": {"g": np.random.default_rng(0)},
    "arrays": {"m": np.zeros((2, 3)), "text": np.array(["x"]), "dates": np.array(["2020-01-01"], "M8[D]")},
    "paths": argparse.Namespace(data=Path("/data"), when=datetime.datetime(2020, 1, 1)),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_plain_data_beside_the_weights(save: Save, beside: object, zipped: bool) -> None:
    path = save({"state_dict": SMALL, "beside": beside}, _use_new_zipfile_serialization=zipped)
    leaves = read_container(path).leaves
    assert torch.equal(leaves["state_dict.a"].tensor, SMALL["a"])


def test_logs_of_mmengine(save: Save) -> None:
    logging = pytest.importorskip("mmengine.logging")
    log = logging.HistoryBuffer([1.0, 2.0], [1, 1])
    assert list(read_container(save({"state_dict": SMALL, "message_hub": {"loss": log}})).leaves) == [
        "state_dict.a",
        "state_dict.b",
    ]


def test_numpy_arrays_of_a_plain_pickle(tmp_path: Path) -> None:
    arrays = {"c": np.arange(6, dtype=">f4").reshape(2, 3), "f": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    for protocol in range(2, 6):
        (tmp_path / "n.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}, protocol))
        leaves = read_container(tmp_path / "n.pkl").leaves
        for name, array in arrays.items():
            assert leaves[f"model.{name}"].tensor.tolist() == array.tolist()


def test_texts_of_python_2(tmp_path: Path) -> None:
    def text(words: bytes) -> bytes:
        return b"U" + bytes([len(words)]) + words

    array = pickle.dumps(np.arange(2.0), 2)[2:-1]
    (tmp_path / "two.pkl").write_bytes(
        b"\x80\x02}(" + text(b"author") + text(b"J\xfcrgen") + text(b"w") + array + b"u."
    )
    assert list(read_container(tmp_path / "two.pkl").leaves) == ["w"]


MARKS = {
    "activation checkpointing": lambda k: re.sub(r"^(layer\d\.\d+)\.", r"\1._checkpoint_wrapped_module.", k),
    "FSDP": lambda k: "_fsdp_wrapped_module." + re.sub(r"^(layer\d)\.", r"\1._fsdp_wrapped_module.", k),
    "compile": lambda k: re.sub(r"^(layer\d|conv1)\.", r"\1._orig_mod.", k),
    "DataParallel": lambda k: re.sub(r"^(layer\d\.\d+\.conv1|layer\d)\.", r"\1.module.", k),
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
def test_marks_of_wrappers_inside_the_names(save: Save, resnet18_state: StateDict, mark: Callable[[str], str]) -> None:
    inspection, tensors = read_backbone(save({mark(k): v for k, v in resnet18_state.items()}))
    assert not inspection.problems
    assert all(torch.equal(tensors[name], resnet18_state[name]) for name in resnet18_state)


def test_one_part_under_two_names_is_an_error(save: Save, resnet18_state: StateDict) -> None:
    twice = resnet18_state | {"layer1.module.0.conv1.weight": torch.ones(64, 64, 3, 3)}
    with pytest.raises(BenchError, match="the same part of a network"):
        inspect_checkpoint(save(twice))


def test_names_of_detectron2(save: Save, resnet18_state: StateDict) -> None:
    def renamed(name: str) -> str:
        name = re.sub(r"bn(\d)\.", r"conv\1.norm.", name)
        name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        return re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name if name[:5] == "layer" else f"stem.{name}")

    inspection, tensors = read_backbone(save({renamed(k): v for k, v in resnet18_state.items()}))
    assert not inspection.problems
    assert all(torch.equal(tensors[name], resnet18_state[name]) for name in resnet18_state)


@pytest.mark.parametrize(
    ("taken", "left", "beside"),
    [("teacher.backbone.", "student.module.backbone.", ()), ("encoder_k.", "encoder_q.", ("grouping_k.weight",))],
)
def test_the_network_that_the_authors_evaluate(
    save: Save, resnet18_state: StateDict, other_state: StateDict, taken: str, left: str, beside: tuple[str, ...]
) -> None:
    tensors = with_prefix(resnet18_state, left) | with_prefix(other_state, taken)
    inspection = inspect_checkpoint(save(tensors | dict.fromkeys(beside, torch.ones(2))))
    assert (inspection.prefix, inspection.problems) == (taken, ())
    assert any("the authors of" in note and f"--prefix '{left}'" in note for note in inspection.notes)


@pytest.mark.parametrize("value", [torch.zeros(64, device="meta"), torch.ones(64).to_sparse()], ids=["meta", "sparse"])
def test_tensors_without_plain_values(save: Save, resnet18_state: StateDict, value: torch.Tensor) -> None:
    inspection = inspect_checkpoint(save(resnet18_state | {"layer1.0.bn1.running_mean": value}))
    assert any("no plain values: `layer1.0.bn1.running_mean`" in problem for problem in inspection.problems)


def test_two_networks_of_which_one_cannot_be_compared(save: Save, resnet18_state: StateDict) -> None:
    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in resnet18_state.items()}
    inspection = inspect_checkpoint(save(with_prefix(resnet18_state, "a.") | with_prefix(small, "b.")))
    assert any("two different networks" in problem for problem in inspection.problems)


def header(names: list[str]) -> bytes:
    return safetensors_bytes(
        dict.fromkeys(names, torch.ones(1)) if len(names) < 2 else {n: torch.ones(1) for n in names}
    )


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "pickle that inflates": lambda p: archive(p, bytes(MOST_PICKLE + 1)),
    "lists in lists": lambda p: archive(p, b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."),
    "key of nested tuples": lambda p: archive(p, b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s."),
    "memo of 2^32": lambda p: archive(p, b"\x80\x02}r\xff\xff\xff\xff."),
    "long forbidden name": lambda p: archive(p, b"\x80\x02cos." + b"a" * 80_000 + b"\nsystem\n)R."),
    "text of 2^62 bytes": lambda p: archive(p, b"\x80\x02\x8d" + struct.pack("<Q", 2**62) + b"."),
    "bytes of 2^40": lambda p: archive(p, b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_bombs_are_refused_with_a_reason(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(BenchError) as error:
        inspect_checkpoint(make(tmp_path / "bomb.pth"))
    check_message(str(error.value))


def test_compressed_values_are_bounded(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_INFLATED <= 4 * 2**30
    monkeypatch.setattr("bench.checkpoints.torch_files.MOST_INFLATED", 2**11)
    path = packed(save({"a": torch.zeros(1000)}), tmp_path / "again.pth", zipfile.ZIP_DEFLATED, "a/")
    with pytest.raises(BenchError, match="unpacks to more than"):
        read_container(path)


def test_many_networks_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "many.safetensors"
    path.write_bytes(header([f"p{i}.layer1.0.conv1.weight" for i in range(3000)]))
    with pytest.raises(BenchError, match="3000 networks lie in the file"):
        inspect_checkpoint(path)
    assert inspect_checkpoint(path, prefix="p7").prefix == "p7."


@pytest.mark.parametrize("name", ["_amp" * 5000, "a." * 3000 + "weight"])
def test_a_name_of_thousands_of_letters(tmp_path: Path, name: str) -> None:
    (tmp_path / "long.safetensors").write_bytes(header([name]))
    with pytest.raises(BenchError, match="characters"):
        inspect_checkpoint(tmp_path / "long.safetensors")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", Path("/dev/zero"), tmp_path / ("x" * 5000)):
        with pytest.raises(BenchError):
            inspect_checkpoint(path)


def test_one_shard_alone_is_named(tmp_path: Path) -> None:
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(header(["layer1.0.conv1.weight"]))
    assert "shard 1 of 2" in inspect_checkpoint(tmp_path / "model-00001-of-00002.safetensors").problems[0]


@pytest.mark.parametrize("odd", ["y" * 300, "\x1b[2J\n\ud800"])
def test_strange_names_are_imported_and_the_card_can_be_printed(
    save: Save, resnet18_state: StateDict, tmp_path: Path, odd: str
) -> None:
    path = save({odd: with_prefix(resnet18_state, f"{odd}.")}).rename(
        os.fsdecode(os.fsencode(tmp_path) + b"/x\xff.pth")
    )
    folder = import_checkpoint(path, name="odd", work=tmp_path / "work")
    card = (folder / "card.json").read_text()
    assert not STEERING.search(card)
    assert card == read_card(folder).to_json()


EVIL = "\x1b]0;t\x07\x9b\u202e\x00\ud800\n"


def mutant(draw: random.Random, state: StateDict) -> tuple[bytes, bool]:
    """A damaged or hostile file, and whether its weights are still those of `state` if it can be read."""
    state = dict(state)
    same = True
    for _ in range(draw.randint(0, 2)):
        name = draw.choice(list(state))
        kind = draw.randrange(7)
        if kind == 0:
            state = with_prefix(
                state, draw.choice(["module.", "a.b.", "_orig_mod.", EVIL, "0.", "[bold]", "x" * 400 + "."])
            )
        elif kind == 1:
            state[name + draw.choice(["", ".", EVIL, ".weight"])] = state.pop(name)
        elif kind == 2:
            types = [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float64]
            state[name] = state[name].to(draw.choice(types))
        elif kind == 3:
            state[name] = torch.zeros(()).expand(draw.choice([(), (0,), (2**30, 2**20), (1,) * 30]))
        elif kind == 4:
            state[draw.choice(["extra", "layer1.9.conv1.weight", "b.layer1.0.conv1.weight", EVIL])] = torch.ones(3)
        elif kind == 5:
            del state[name]
        else:
            state[name] = state[name].to("meta") if draw.random() < 0.5 else torch.ones(3).to_sparse()
        same = same and kind == 0
    tree: Any = state
    for _ in range(draw.choice([0, 0, 1, 3, 80])):
        tree = {draw.choice(["state_dict", "model", EVIL, 3, 10**30, (1, 2), None]): tree}
    if draw.random() < 0.2 and isinstance(tree, dict):
        tree = {**tree, "self": [tree], "lr": np.float32(1), "rng": random.getstate()}
    buffer = io.BytesIO()
    torch.save(tree, buffer, _use_new_zipfile_serialization=draw.random() < 0.6)
    data = bytearray(buffer.getvalue())
    damage = draw.randrange(4)
    if damage == 1:
        for _ in range(draw.choice([1, 1, 5, 100])):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif damage == 2:
        del data[draw.randrange(len(data)) :]
    elif damage == 3:
        at = draw.randrange(len(data))
        data[at : at + draw.randrange(64)] = draw.randbytes(draw.randrange(64))
    return bytes(data), same and (damage == 0 or data[:2] == b"PK")


def check_message(text: str) -> None:
    assert text.count("\n") < 3
    assert len(text) < 4001
    assert not STEERING.search(text)


def test_mutants_are_read_right_or_refused_in_words(tmp_path: Path, resnet18_state: StateDict) -> None:
    path, read = tmp_path / "mutant.pth", 0
    for seed in range(mutations(40)):
        data, same = mutant(random.Random(seed), resnet18_state)
        path.write_bytes(data)
        try:
            inspection, tensors = read_backbone(path)
        except BenchError as error:
            check_message(str(error))
            continue
        read += 1
        if same and not inspection.problems:
            assert all(torch.equal(tensors[name].float(), resnet18_state[name].float()) for name in tensors), seed
    assert read
