"""Track heads: the head that was pretrained with its backbone is loaded, proven, and part of the run's key."""

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from augmented_voc import with_train_aug
from reduced_segmentation import reduced
from short_protocols import checkpoint, reference, short
from torch import Tensor
from training_plans import plan_of

from bench.checkpoints import import_checkpoint
from bench.errors import BenchError
from bench.heads import PretrainedHead, pretrained_head
from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import build_model, head_part, prove_backbone, resolve
from bench.openmmlab.hooks import Executed, GuardHook
from bench.openmmlab.runner import evaluate_stored, make_runner, run_transfer, write_config
from bench.openmmlab.stored_weights import WEIGHTS
from bench.protocols import Protocol, load_protocol
from bench.submit import plan_submission
from pretrain.exported import HEAD, read_exported, serialized
from pretrain.nets.segmentation_heads import ASPPHead, FCNHead

prepare_openmmlab()

SMALL, LARGE = "heads_mini_voc_seg_aspp", "heads_voc12aug_seg_aspp_40k"
TENSORS = 5 * 5
"""Of the small head: five convolutions, each with a norm of four tensors (its counter is none)."""


def head(width: int = 512, channels: int = 128, dilations: tuple[int, ...] = (1, 2, 3), seed: int = 0) -> ASPPHead:
    torch.manual_seed(seed)
    return ASPPHead(width, channels, dilations)


def with_head(folder: Path, content: bytes) -> Path:
    (folder / HEAD).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_head(checkpoint(tmp_path_factory.mktemp("work"), method="CP2"), serialized(head().state_dict()))


def loaded(protocol: Protocol, folder: Path) -> PretrainedHead:
    found = pretrained_head(protocol, folder)
    assert found is not None
    return found


def test_every_tensor_but_the_classifiers_is_the_pretrained_one(folder: Path) -> None:
    protocol, exported = load_protocol(SMALL), read_exported(folder)
    config, tensors = resolve(protocol, exported.card, Path("/data")), dict(exported.tensors)
    model = build_model(config, tensors, 0, loaded(protocol, folder))
    assert prove_backbone(head_part(model), dict(loaded(protocol, folder).tensors), "head") == TENSORS
    own, given = model.decode_head.state_dict(), head().state_dict()
    assert own.keys() - given.keys() == {"conv_seg.weight", "conv_seg.bias"} and given.keys() <= own.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in given.items())
    random = build_model(config, tensors, 0)
    assert torch.equal(random.decode_head.conv_seg.weight, own["conv_seg.weight"]), "nothing else differs"
    assert not torch.equal(random.decode_head.bottleneck.conv.weight, own["bottleneck.conv.weight"])
    image = torch.rand(2, 3, 96, 96)
    maps = model.eval().extract_feat(image)
    assert maps[3].shape[-1] == 96 // 16
    torch.testing.assert_close(model.decode_head._forward_feature(maps), head().eval()(maps[3]))


def wrong_heads() -> dict[str, tuple[dict[str, Tensor], str]]:
    broken = head().state_dict()
    broken["bottleneck.conv.weight"] = broken["bottleneck.conv.weight"] * torch.nan
    return {
        "sizes": (head(channels=64).state_dict(), r"does not fit the protocol's head: tensors 25 of another shape"),
        "kind": (FCNHead(512, 128).state_dict(), r"does not fit the protocol's head: tensors 25 not filled"),
        "more": (head(dilations=(1, 2, 3, 4)).state_dict(), r"5 left over \(aspp_modules\.3"),
        "values": (broken, "bottleneck.conv.weight holds values that are not finite"),
    }


@pytest.mark.parametrize("case", ["sizes", "kind", "more", "values"])
def test_a_head_that_is_not_the_protocols_is_refused(case: str, folder: Path, tmp_path: Path) -> None:
    tensors, words = wrong_heads()[case]
    protocol, exported = load_protocol(SMALL), read_exported(folder)
    shutil.copy(folder / "card.json", tmp_path)
    with pytest.raises(BenchError, match=words):
        found = loaded(protocol, with_head(tmp_path, serialized(tensors)))
        build_model(resolve(protocol, exported.card, Path("/data")), dict(exported.tensors), 0, found)


def test_a_run_says_which_head_it_loaded_and_that_it_was_trained(folder: Path, tiny_data: Path, tmp_path: Path) -> None:
    protocol = short(SMALL)
    result = run_transfer(protocol, folder, tiny_data, reference(protocol), 0, tmp_path / "run")
    assert result.status == "finished"
    assert result.outputs[HEAD] == loaded(protocol, folder).sha256
    assert evaluate_stored(protocol, folder, tiny_data, tmp_path / "run", tmp_path / "again") == result.metrics
    stored = safetensors.torch.load_file(tmp_path / "run" / WEIGHTS)
    for name in ("image_pool.1", *(f"aspp_modules.{i}" for i in range(3)), "bottleneck"):
        before = head().get_parameter(f"{name}.conv.weight").detach().half()
        assert not torch.equal(stored[f"decode_head.{name}.conv.weight"], before), f"{name} was not trained"

    random = short(f"{SMALL}_random")
    other = run_transfer(random, folder, tiny_data, reference(random), 0, tmp_path / "random")
    assert HEAD not in other.outputs


def test_a_head_that_is_not_loaded_is_noticed(folder: Path, tiny_data: Path, tmp_path: Path) -> None:
    protocol, exported = short(SMALL), read_exported(folder)
    found, tensors = loaded(protocol, folder), dict(exported.tensors)
    config = write_config(protocol, exported.card, tiny_data, tmp_path)
    for given, words in ((None, "0 tensors of a pretrained head were loaded"), (found, "the model's head is not the")):
        model = build_model(config, tensors, 0)
        runner = make_runner(config, model, 0, tmp_path, training=True)
        runner.register_hook(GuardHook(plan_of(protocol), exported.card, tensors, Executed(), 0, given))
        with pytest.raises(BenchError, match=words):
            runner.train()


def test_the_head_is_part_of_what_makes_a_run(folder: Path, tiny_data: Path, tmp_path: Path) -> None:
    def runs(source: Path, work: str, protocol: str = SMALL) -> list[str]:
        plan = plan_submission(
            source, name="mine", data=tiny_data, work=tmp_path / work, track="heads", protocols=[protocol], seeds=2
        )
        assert all(run.checkpoint.parent.parent == tmp_path / work for run in plan.todo)
        return [run.key for run in plan.todo]

    other = with_head(checkpoint(tmp_path / "other", method="CP2"), serialized(head(seed=1).state_dict()))
    assert len({*runs(folder, "one"), *runs(other, "two")}) == 4
    assert runs(folder, "one", f"{SMALL}_random") == runs(other, "two", f"{SMALL}_random")
    with pytest.raises(BenchError, match="with another head: remove the folder to import them again"):
        runs(other, "one")
    without = checkpoint(tmp_path / "without", method="CP2")
    with pytest.raises(BenchError, match=r"starts from a pretrained head: .* has no head\.safetensors"):
        runs(without, "three")
    assert len(runs(without, "one")) == 2, "the same backbone was imported with its head before"


def test_random_initialization_has_a_random_head(tiny_data: Path, tmp_path: Path) -> None:
    random, protocol = checkpoint(tmp_path), short(SMALL)
    assert pretrained_head(protocol, random) is None
    result = run_transfer(protocol, random, tiny_data, reference(protocol), 0, tmp_path / "run")
    assert result.status == "finished" and HEAD not in result.outputs


def test_a_file_of_cp2s_code_brings_its_head(folder: Path, tmp_path: Path) -> None:
    backbone, own = dict(read_exported(folder).tensors), head().state_dict()
    state = {f"module.encoder_q.backbone.{name}": tensor for name, tensor in backbone.items()}
    state |= {f"module.encoder_q.decode_head.{name}": tensor for name, tensor in own.items()}
    unused = ("decode_head.contrast_conv.0.weight", "decode_head.conv_seg.weight")
    state |= {f"module.encoder_q.{name}": torch.ones(4, 4, 1, 1) for name in unused}
    state |= {f"module.encoder_k.backbone.{name}": tensor + 1 for name, tensor in backbone.items()}
    state |= {f"module.encoder_k.decode_head.{name}": tensor + 1 for name, tensor in own.items()}
    torch.save({"epoch": 200, "state_dict": state, "optimizer": {}}, tmp_path / "cp2.pth")
    imported = import_checkpoint(tmp_path / "cp2.pth", name="cp2", work=tmp_path)
    assert (imported / HEAD).read_bytes() == serialized(own)


def test_what_is_built_at_full_size(folder: Path) -> None:
    """Card S4: output stride 16, five branches of 512 channels, and CP2's schedule."""
    protocol, exported = load_protocol(LARGE), read_exported(folder)
    plan = plan_of(protocol)
    given = PretrainedHead(head(512, 512, (1, 6, 12, 18)).state_dict(), "0" * 64)
    config = resolve(protocol, exported.card, Path("/data"))
    model = build_model(config, dict(exported.tensors), 0, given)
    guards.check_segmenter(model, plan)
    guards.check_trained(model.train())
    assert not model.with_auxiliary_head and model.decode_head.dropout.p == 0.1
    assert [one.conv.dilation[0] for one in model.decode_head.aspp_modules] == [1, 6, 12, 18]
    maps = model.to("meta").extract_feat(torch.empty(2, 3, 512, 512, device="meta"))
    assert model.decode_head(maps).shape == (2, 21, 32, 32)
    assert (plan.batch_size, plan.iterations, plan.learning_rate, plan.final_learning_rate) == (16, 40_000, 3e-3, 1e-4)
    assert protocol.config["optim_wrapper"]["optimizer"]["weight_decay"] == plan.norm_weight_decay == 0
    (schedule,) = protocol.config["param_scheduler"]
    assert (schedule["type"], schedule["power"], schedule["eta_min"], schedule["end"]) == ("PolyLR", 0.9, 1e-4, 40_000)


@pytest.mark.slow
def test_the_large_one_trains_and_evaluates(folder: Path, tiny_data: Path, tmp_path: Path) -> None:
    protocol, data = reduced(LARGE), with_train_aug(tiny_data, tmp_path / "data")
    large = with_head(checkpoint(tmp_path, method="CP2"), serialized(head(512, 512, (1, 6, 12, 18)).state_dict()))
    result = run_transfer(protocol, large, data, reference(protocol), 0, tmp_path / "run")
    assert result.status == "finished" and set(result.metrics) == {"mIoU", "mAcc", "aAcc"}
    assert result.outputs[HEAD] == loaded(protocol, large).sha256
