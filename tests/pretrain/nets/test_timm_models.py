"""Networks of timm as backbones."""

import copy

import pytest
import torch
from torch import nn

from pretrain.errors import PretrainError
from pretrain.nets import timm_models
from pretrain.nets.architectures import build_backbone, find_architecture, parameter_count, tensor_shapes
from pretrain.nets.timm_models import TimmBackbone, with_synchronised_norms

timm = pytest.importorskip("timm", reason="timm is an optional package")


def backbone(name: str) -> TimmBackbone:
    torch.manual_seed(0)
    built = build_backbone(name)
    assert isinstance(built, TimmBackbone)
    return built


@pytest.mark.parametrize(
    ("name", "channels", "stem", "norm"),
    [
        ("mobilenetv2_050", (16, 16, 48, 160), "3x3", "BN"),
        ("convnext_atto", (40, 80, 160, 320), "4x4", "LN"),
        ("resnet10t", (64, 128, 256, 512), "3x3", "BN"),
        pytest.param("swin_tiny_patch4_window7_224", (96, 192, 384, 768), "4x4", "LN", marks=pytest.mark.slow),
    ],
)
def test_the_maps_are_those_that_timm_itself_gives(name: str, channels: tuple[int, ...], stem: str, norm: str) -> None:
    one = find_architecture(name)
    assert (one.channels, one.strides, one.stem, one.norm) == (channels, (4, 8, 16, 32), stem, norm)
    built = backbone(name).eval()
    theirs = timm.create_model(name, pretrained=False).eval()
    theirs.load_state_dict(built.state_dict(), strict=False)
    side = one.input_size if "swin" in name else 64
    x = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        maps, stages = built.features(x), theirs.forward_intermediates(x, output_fmt="NCHW", intermediates_only=True)
        shapes = [
            (2, width, side // stride, side // stride) for width, stride in zip(channels, one.strides, strict=True)
        ]
        assert [tuple(m.shape) for m in maps] == shapes
        for ours, their in zip(maps, stages[-4:], strict=True):
            assert torch.equal(ours, their)
        assert torch.equal(built(x), maps[-1])
        assert built(torch.randn(1, 3, 70, 33)).shape == (1, channels[-1], 3, 2)


def test_a_transformers_maps_are_those_after_each_quarter_of_its_blocks() -> None:
    """Each through the final norm, without class token and registers; a whole image of patches of 16 pixels."""
    name = "vit_tiny_patch16_dinov3_qkvb"
    one = find_architecture(name)
    assert (one.channels, one.strides, one.stem, one.norm) == ((192,) * 4, (16,) * 4, "16x16", "LN")
    built = backbone(name).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        maps, model = built.features(x), built.model
        tokens, rope = model._pos_embed(model.patch_embed(x))
        expected = []
        for number, block in enumerate(model.blocks, start=1):
            tokens = block(tokens, rope=rope)
            if number % 3 == 0:
                expected.append(model.norm(tokens)[:, 5:].transpose(1, 2).reshape(2, 192, 4, 6))
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps, expected, strict=True))
        assert torch.equal(built(x), maps[-1])
    built.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in built.parameters())


def test_tensors_have_the_names_of_timm_and_the_rest_is_named() -> None:
    built = backbone("mobilenetv2_050")
    whole = timm.create_model("mobilenetv2_050", pretrained=False).state_dict()
    one = find_architecture("mobilenetv2_050")
    assert {key: tuple(value.shape) for key, value in built.state_dict().items()} == tensor_shapes(one.name)
    assert built.state_dict().keys() | one.behind == whole.keys()  # type: ignore[union-attr]
    assert {key.split(".")[0] for key in one.behind} == {"conv_head", "bn2", "classifier"}  # type: ignore[union-attr]
    assert [name for name, _ in built.named_parameters()] == [n for n, p in built.model.named_parameters()]
    assert parameter_count(one.name) == sum(p.numel() for p in built.parameters())


def test_what_is_said_of_layers() -> None:
    assert find_architecture("resnet10t").stride_style == "pytorch"
    assert find_architecture("mobilenetv2_050").stride_style == "none"
    assert timm_models._norm(TimmBackbone(nn.Sequential(nn.Conv2d(3, 8, 3)), (0,), 8)) == "none"


def test_a_copy_is_of_its_own_and_modes_reach_the_model() -> None:
    built = backbone("mobilenetv2_050").eval()
    copied = copy.deepcopy(built)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(2)
        assert not torch.equal(built(x), copied(x))
        copied.load_state_dict(built.state_dict())
        assert torch.equal(built(x), copied(x))
    copied.train()
    assert (built.model.training, copied.model.training, copied.model.bn1.training) == (False, True, True)
    built(x).sum().backward()
    assert all(parameter.grad is not None for parameter in built.parameters())


def test_norms_with_their_activation_are_synchronised() -> None:
    network = with_synchronised_norms(backbone("mobilenetv2_050"))
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 51  # of the stem, two of the first block, three of each other
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert any(isinstance(module, nn.ReLU6) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenetv2_10", "no backbone 'mobilenetv2_10'.*timm's nearest are mobilenetv2_1"),
        ("mobilenetv2_100.ra_in1k", "no backbone"),
        ("mixer_s16_224", "cannot be a backbone here: its maps have strides 16, 16, 16, not 4, 8, 16, 32"),
    ],
)
def test_what_is_no_backbone_is_said(name: str, message: str) -> None:
    with pytest.raises(PretrainError, match=message):
        find_architecture(name)


def test_batch_norm_that_cannot_be_split_is_said() -> None:
    with pytest.raises(PretrainError, match="set bn_splits to 1"):
        build_backbone("mobilenetv2_050", bn_splits=2)
    assert isinstance(build_backbone("convnext_atto", bn_splits=2), TimmBackbone)  # it has none


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    timm_models.timm_facts.cache_clear()
    with pytest.raises(PretrainError, match=r"no backbone 'mobilenetv2_100'.*pip install 'densebench\[timm\]'"):
        find_architecture("mobilenetv2_100")
