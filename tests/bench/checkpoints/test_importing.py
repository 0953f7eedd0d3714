import hashlib
import json
import math
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from synthetic_nets import StateDict, with_prefix

from bench.checkpoints import import_checkpoint, random_backbone
from bench.checkpoints import importing as importing_module
from bench.contamination.search import Contamination, Copy, mark_card
from bench.errors import BenchError
from leaderboard.base.errors import DenseBenchError, FileError
from leaderboard.records import Pretraining
from pretrain import exported as exported_module
from pretrain.exported import read_card
from pretrain.nets.architectures import build_backbone, tensor_shapes

Save = Callable[..., Path]


def weights(folder: Path) -> StateDict:
    return load_file(folder / "backbone.safetensors")


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def files(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}


@pytest.fixture(scope="session")
def trained() -> StateDict:
    """A ResNet-18 after two training steps: every value its own, signs and zeros included."""
    torch.manual_seed(0)
    net = torchvision.models.resnet18()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(4, 3, 32, 32)).square().mean().backward()
        optimizer.step()
    state = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    state["conv1.weight"][0, 0, 0, 0] = -0.0
    return state


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture(scope="session")
def shared_work(tmp_path_factory: pytest.TempPathFactory, resnet18_state: StateDict) -> Path:
    """A work folder that holds `resnet18_state` as `net`; tests leave it as it is."""
    root = tmp_path_factory.mktemp("shared")
    torch.save(resnet18_state, root / "net.pth")
    import_checkpoint(root / "net.pth", name="net", work=root / "work")
    return root / "work"


@pytest.fixture(scope="session")
def pristine_export(tmp_path_factory: pytest.TempPathFactory, resnet18_state: StateDict) -> Path:
    root = tmp_path_factory.mktemp("export")
    torch.save(resnet18_state, root / "net.pth")
    return import_checkpoint(
        root / "net.pth",
        name="densecl-mini",
        work=root,
        method="DenseCL",
        std=(0.2, 0.2, 0.2),
        pretraining=Pretraining.known(recipe="densecl-mini", epochs=3),
    )


def test_round_trip(save: Save, trained: StateDict, work: Path) -> None:
    path = save({"epoch": 1, "state_dict": with_prefix(trained, "module.encoder_q.")}, "moco.pth.tar")
    before = digest(path)
    folder = import_checkpoint(
        path,
        name="moco-v2-test",
        work=work,
        method="MoCo v2",
        license="MIT",
        std=(0.228, 0.224, 0.225),
        pretraining=Pretraining.known(data="toys", epochs=2),
    )
    written = weights(folder)
    assert written.keys() == {name for name in trained if not name.startswith("fc.")}
    for name, tensor in written.items():
        assert tensor.numpy().tobytes() == trained[name].numpy().tobytes()
    assert digest(path) == before
    assert [f.name for f in sorted(folder.iterdir())] == ["backbone.safetensors", "card.json"]
    assert [f.name for f in folder.parent.iterdir()] == [folder.name]

    card = read_card(folder)
    assert card.sha256 == digest(folder / "backbone.safetensors")
    assert folder == work / "checkpoints" / card.sha256[:12]
    assert (card.name, card.method, card.license, card.architecture) == ("moco-v2-test", "MoCo v2", "MIT", "resnet18")
    assert (card.color_order, card.mean, card.std) == ("RGB", (0.485, 0.456, 0.406), (0.228, 0.224, 0.225))
    assert card.parameters == sum(
        p.numel() for n, p in torchvision.models.resnet18().named_parameters() if n[:2] != "fc"
    )
    assert card.pretraining == Pretraining.known(data="toys", epochs=2)
    assert (card.source.file, card.source.sha256, card.source.key_prefix) == (
        "moco.pth.tar",
        before,
        "module.encoder_q.",
    )
    assert card.source.format == "torchvision names (torch zip, under state_dict)"


def test_the_imported_network_computes_the_same(save: Save, trained: StateDict, work: Path) -> None:
    folder = import_checkpoint(save(trained), name="same", work=work)
    reference = torchvision.models.resnet18()
    reference.load_state_dict(trained)
    features = torch.nn.Sequential(*list(reference.children())[:-2]).eval()
    net = build_backbone("resnet18").eval()
    net.load_state_dict(weights(folder), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(images), features(images))


def test_the_bytes_depend_on_the_weights_alone(save: Save, trained: StateDict, tmp_path: Path) -> None:
    backwards = dict(reversed(trained.items()))
    sources = [
        save(trained, "plain.pth"),
        save(with_prefix(backwards, "backbone."), "backwards.pth", _use_new_zipfile_serialization=False),
        save({"model": {n: t.double() if t.is_floating_point() else t.int() for n, t in trained.items()}}, "wide.pth"),
    ]
    save_file(trained, tmp_path / "net.safetensors")
    folders = [
        import_checkpoint(path, name="net", work=tmp_path / str(i))
        for i, path in enumerate([*sources, tmp_path / "net.safetensors"])
    ]
    assert len({digest(folder / "backbone.safetensors") for folder in folders}) == 1
    assert len({folder.name for folder in folders}) == 1
    with safe_open(folders[0] / "backbone.safetensors", framework="pt") as tensors:
        assert tensors.metadata() == {"format": "pt"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(save: Save, trained: StateDict, work: Path, dtype: torch.dtype) -> None:
    half = {name: t.to(dtype) if t.is_floating_point() else t for name, t in trained.items()}
    written = weights(import_checkpoint(save(half), name="half", work=work))
    assert all(torch.equal(tensor, half[name].to(tensor.dtype)) for name, tensor in written.items())
    assert {tensor.dtype for tensor in written.values()} == {torch.float32, torch.int64}


def test_missing_counters_become_zero(save: Save, trained: StateDict, work: Path) -> None:
    state = {name: t for name, t in trained.items() if "num_batches" not in name}
    written = weights(import_checkpoint(save(state), name="counters", work=work))
    assert written["bn1.num_batches_tracked"].item() == 0
    build_backbone("resnet18").load_state_dict(written, strict=True)


def test_problems_are_errors_and_write_nothing(save: Save, trained: StateDict, work: Path) -> None:
    state = {name: t for name, t in trained.items() if not name.startswith("layer4")}
    with pytest.raises(BenchError, match=r"checkpoint\.pth: missing stage layer4.*densebench inspect"):
        import_checkpoint(save(state), name="cut", work=work)
    assert not work.exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a/b"}, "the card is not valid: name"),
        ({"name": ""}, "the card is not valid: name"),
        ({"std": (58.395, 57.12, 57.375)}, "divide those for 0-255 by 255"),
        ({"std": (0.0, 0.1, 0.1)}, "std is"),
        ({"mean": (float("nan"), 0.1, 0.1)}, "mean is"),
        ({"color_order": "GBR"}, "the card is not valid: color_order"),
    ],
)
def test_bad_card_fields(
    save: Save, resnet18_state: StateDict, work: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(DenseBenchError, match=message):
        import_checkpoint(save(resnet18_state), **{"name": "fine", "work": work, **fields})
    assert not work.exists()


# --- repeated imports ---------------------------------------------------------------------------------------------


def test_an_equal_import_is_reused(save: Save, resnet18_state: StateDict, shared_work: Path) -> None:
    (folder,) = (shared_work / "checkpoints").iterdir()
    before = files(shared_work), (folder / "card.json").stat().st_mtime_ns
    elsewhere = save(with_prefix(resnet18_state, "module."), "renamed.pth")
    assert import_checkpoint(elsewhere, name="net", work=shared_work) == folder
    assert (files(shared_work), (folder / "card.json").stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({"name": "other"}, "name is 'net' there and 'other' now"),
        ({"name": "net", "std": (0.228, 0.224, 0.225)}, "std is (0.229, 0.224, 0.225) there and (0.228, 0.224, 0.225)"),
        ({"name": "net", "license": "MIT"}, "license is None there and 'MIT' now"),
    ],
)
def test_equal_weights_with_another_card_are_refused(
    save: Save, resnet18_state: StateDict, shared_work: Path, fields: dict[str, Any], difference: str
) -> None:
    before = files(shared_work)
    with pytest.raises(BenchError, match=r"already in .* as 'net'") as error:
        import_checkpoint(save(resnet18_state), work=shared_work, **fields)
    assert difference in str(error.value)
    assert files(shared_work) == before


def test_a_card_that_says_more_about_the_training_is_no_other_card(exported: Path, work: Path) -> None:
    """Exports have learnt to say more: what was imported of an old one stays good."""
    folder = import_checkpoint(exported, name="mine", work=work)
    card = json.loads((folder / "card.json").read_text())
    card["pretraining"] |= {"crops": None, "resolution": None}
    card["code_commit"] = None
    (folder / "card.json").write_text(json.dumps(card))
    more = json.loads((exported / "card.json").read_text())
    more["pretraining"] |= {"crops": "two of 224", "resolution": 224}
    (exported / "card.json").write_text(json.dumps(more | {"code_commit": "abc"}))
    assert import_checkpoint(exported, name="mine", work=work) == folder
    card["pretraining"]["resolution"] = 96
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(BenchError, match="resolution is 96 there and 224 now"):
        import_checkpoint(exported, name="mine", work=work)


def test_a_mark_of_copied_test_images_that_comes_late_is_not_dropped(exported: Path, work: Path) -> None:
    def mark(folder: Path, *found: tuple[str, int]) -> None:
        copies = (Copy("a", "b", "same bytes", 0),)
        mark_card(folder, [Contamination(name, 1_449, "x", copies * many, 0) for name, many in found])

    folder = import_checkpoint(exported, name="mine", work=work)
    mark(exported, ("voc2012_seg", 0))
    assert import_checkpoint(exported, name="mine", work=work) == folder  # nothing was found: results need no mark
    mark(exported, ("coco2017_det", 0), ("voc2012_seg", 7))
    with pytest.raises(BenchError, match=rf"7 of voc2012_seg\), the one in .* of 0 of voc2012_seg.*--mark {folder}"):
        import_checkpoint(exported, name="mine", work=work)
    mark(folder, ("voc2012_seg", 7))
    assert import_checkpoint(exported, name="mine", work=work) == folder
    assert [one.copies for one in read_card(folder).pretraining.copies or ()] == [7]
    mark(folder, ("voc2012_seg", 8))
    with pytest.raises(BenchError, match="of 8 of voc2012_seg"):
        import_checkpoint(exported, name="mine", work=work)
    mark(exported, ("voc2012_seg", 0))
    assert import_checkpoint(exported, name="mine", work=work) == folder  # the kept card says more than this one
    assert [one.copies for one in read_card(folder).pretraining.copies or ()] == [8]


def test_a_name_stands_for_one_set_of_weights(save: Save, other_state: StateDict, shared_work: Path) -> None:
    before = files(shared_work)
    with pytest.raises(BenchError, match="the name 'net' already stands for other weights"):
        import_checkpoint(save(other_state), name="net", work=shared_work)
    assert files(shared_work) == before


def test_two_names_for_two_sets_of_weights(
    save: Save, resnet18_state: StateDict, other_state: StateDict, work: Path
) -> None:
    first = import_checkpoint(save(resnet18_state), name="net", work=work)
    second = import_checkpoint(save(other_state), name="net-2", work=work)
    assert sorted((work / "checkpoints").iterdir()) == sorted([first, second])


def test_a_changed_import_is_noticed(save: Save, resnet18_state: StateDict, work: Path) -> None:
    path = save(resnet18_state)
    folder = import_checkpoint(path, name="net", work=work)
    with (folder / "backbone.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(BenchError, match="was changed after its import"):
        import_checkpoint(path, name="net", work=work)


def test_an_unwritable_work_folder(save: Save, resnet18_state: StateDict, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(FileError, match="cannot make the folder"):
        import_checkpoint(save(resnet18_state), name="net", work=blocked)


# --- the proof ----------------------------------------------------------------------------------------------------


def test_the_proof_notices_one_wrong_bit(
    save: Save, resnet18_state: StateDict, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = importing_module.serialized

    def with_a_wrong_bit(*arguments: Any) -> bytes:
        data = bytearray(original(*arguments))
        data[-1] ^= 1
        return bytes(data)

    monkeypatch.setattr(importing_module, "serialized", with_a_wrong_bit)
    with pytest.raises(BenchError, match=r"the proof failed: `.*` in the new file differs from the source"):
        import_checkpoint(save(resnet18_state), name="net", work=work)
    assert list((work / "checkpoints").iterdir()) == []


def test_the_proof_notices_a_network_that_does_not_fit(
    save: Save, resnet18_state: StateDict, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = {name: shape for name, shape in tensor_shapes("resnet18").items() if name != "conv1.weight"}
    monkeypatch.setattr(exported_module, "tensor_shapes", lambda name: shapes)
    with pytest.raises(BenchError, match=r"the proof failed: .* does not hold a complete resnet18.*conv1.weight"):
        import_checkpoint(save(resnet18_state), name="net", work=work)
    assert list((work / "checkpoints").iterdir()) == []


def test_same_bits_tells_minus_zero_from_zero() -> None:
    assert not importing_module.same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert importing_module.same_bits(torch.tensor(-0.0), torch.tensor(-0.0))
    assert not importing_module.same_bits(torch.zeros(2), torch.zeros(2, dtype=torch.float64))


# --- exported backbones that have a card ------------------------------------------------------------------------------


@pytest.fixture
def exported(pristine_export: Path, tmp_path: Path) -> Path:
    """An exported folder as a stranger or `densebench export` would write it."""
    return Path(shutil.copytree(pristine_export, tmp_path / "exported"))


@pytest.mark.parametrize("whole_folder", [True, False])
def test_the_card_is_taken_over(exported: Path, work: Path, whole_folder: bool) -> None:
    path = exported if whole_folder else exported / "backbone.safetensors"
    folder = import_checkpoint(path, name="mine", work=work)
    old, new = read_card(exported), read_card(folder)
    assert new == old.model_copy(update={"name": "mine"})
    assert digest(folder / "backbone.safetensors") == old.sha256


def test_fields_that_are_given_go_before_the_card(exported: Path, work: Path) -> None:
    folder = import_checkpoint(exported, name="mine", work=work, license="CC0", method="DenseCL (ours)")
    card = read_card(folder)
    assert (card.license, card.method, card.std) == ("CC0", "DenseCL (ours)", (0.2, 0.2, 0.2))


def test_an_imported_folder_can_be_submitted_again(exported: Path, work: Path) -> None:
    folder = import_checkpoint(exported, name="mine", work=work)
    assert import_checkpoint(folder, name="mine", work=work) == folder


def test_a_card_of_other_weights_is_refused(exported: Path, other_state: StateDict, work: Path) -> None:
    save_file({n: t.contiguous() for n, t in other_state.items()}, exported / "backbone.safetensors")
    with pytest.raises(DenseBenchError, match="is not the file that its card"):
        import_checkpoint(exported, name="mine", work=work)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "resnet50"}, "does not hold a complete resnet50"),
        ({"parameters": 5}, "says 5 parameters"),
        ({"colour": "RGB"}, "not a valid card: colour: Extra inputs"),
        ({"mean": [0.5, 0.5]}, "not a valid card: mean"),
    ],
)
def test_a_false_card_is_refused(exported: Path, work: Path, change: dict[str, Any], message: str) -> None:
    file = exported / "card.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DenseBenchError, match=message):
        import_checkpoint(exported, name="mine", work=work)


def test_a_card_beside_a_foreign_layout_is_refused(exported: Path, resnet18_state: StateDict, work: Path) -> None:
    file = exported / "backbone.safetensors"
    save_file({n: t.contiguous() for n, t in with_prefix(resnet18_state, "module.").items()}, file)
    card = json.loads((exported / "card.json").read_text()) | {"sha256": digest(file)}
    (exported / "card.json").write_text(json.dumps(card))
    with pytest.raises(BenchError, match=r"is no exported file \(prefix 'module\.'"):
        import_checkpoint(exported, name="mine", work=work)


# --- random weights -----------------------------------------------------------------------------------------------


def test_random_weights_are_initialised_as_in_torchvision(work: Path) -> None:
    folder = random_backbone("resnet18", seed=3, name="random", work=work)
    state = weights(folder)
    reference = torchvision.models.resnet18().state_dict()
    for name, tensor in state.items():
        if tensor.ndim == 4:
            out, _, height, width = tensor.shape
            sigma = math.sqrt(2 / (out * height * width))
            n = tensor.numel()
            assert abs(tensor.mean().item()) < 5 * sigma / math.sqrt(n)
            assert abs(tensor.std().item() / sigma - 1) < 5 / math.sqrt(2 * n)
        else:
            assert torch.equal(tensor, reference[name])
    card = read_card(folder)
    assert (card.method, card.pretraining.seed, card.pretraining.labels) == ("random initialisation", 3, "none")
    assert card.source.file == "random:resnet18:3"


def test_random_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    first = random_backbone("resnet18", seed=1, name="r", work=tmp_path / "a")
    state = torch.get_rng_state()
    second = import_checkpoint("random:resnet18:1", name="r", work=tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state was touched"
    other = import_checkpoint(Path("random:resnet18"), name="r", work=tmp_path / "c")
    assert first.name == second.name != other.name
    assert read_card(other).pretraining.seed == 0
    assert not torch.equal(weights(first)["conv1.weight"], weights(other)["conv1.weight"])


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("random:resnet19", {}, "no backbone 'resnet19'; choose one of resnet1"),
        ("random:", {}, "no backbone ''; choose one of resnet18"),
        ("random:resnet18", {"method": "MoCo"}, "have no method to declare"),
        ("random:resnet18", {"prefix": "module."}, "have no prefix to declare"),
        ("random:resnet18:x", {}, "no such file"),
    ],
)
def test_random_weights_refuse(work: Path, path: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        import_checkpoint(path, name="r", work=work, **fields)


def test_of_two_imports_of_one_name_at_once_one_gets_it(tmp_path: Path) -> None:
    start, ended = threading.Barrier(6), []

    def submit(seed: int) -> None:
        start.wait()
        try:
            ended.append(random_backbone("resnet18", seed=seed, name="mine", work=tmp_path).name)
        except BenchError as error:
            assert "the name 'mine' already stands for other weights" in str(error)

    threads = [threading.Thread(target=submit, args=(number // 2,)) for number in range(6)]  # each of three seeds twice
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 2 and len(set(ended)) == 1
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {ended[0]}


def test_what_a_killed_import_left_goes_and_the_umask_is_kept(tmp_path: Path) -> None:
    left = tmp_path / "checkpoints" / ".importing-abc"
    left.mkdir(parents=True)
    (left / "backbone.safetensors").write_bytes(b"half")
    before = os.umask(0o027)
    try:
        folder = random_backbone("resnet18", seed=0, name="mine", work=tmp_path)
    finally:
        os.umask(before)
    assert not left.exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o640}
