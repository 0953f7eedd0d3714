import copy

import pytest
import torch
from torch import nn
from torchvision.models import resnet
from torchvision.models._utils import IntermediateLayerGetter

from pretrain.errors import PretrainError
from pretrain.nets.architectures import (
    ARCHITECTURES,
    ResNetArchitecture,
    backbone_for,
    build_backbone,
    find_architecture,
    forward_operations,
    parameter_count,
    tensor_shapes,
    width_of,
)
from pretrain.nets.batchnorm import SplitBatchNorm2d

RESNETS = [name for name, one in ARCHITECTURES.items() if isinstance(one, ResNetArchitecture)]
TORCHVISIONS = [name for name in RESNETS if hasattr(resnet, name)]


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("name", TORCHVISIONS)
def test_state_dict_is_torchvisions_without_fc(name: str, splits: int) -> None:
    with torch.device("meta"):
        ours = build_backbone(name, bn_splits=splits)
        theirs = getattr(resnet, name)(weights=None)
    expected = {key: value.shape for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected
    assert ours.width == theirs.fc.in_features
    assert set(RESNETS) - set(TORCHVISIONS) == {"resnet200"}


def test_resnet200_has_the_published_size() -> None:
    """64.7 million parameters with the classifier of 1,000 classes, in 200 layers (timm's `resnet200`: 64.67 M)."""
    assert (parameter_count("resnet200") + 2048 * 1000 + 1000) / 1e6 == pytest.approx(64.67, abs=5e-3)
    convolutions = [name for name, shape in tensor_shapes("resnet200").items() if len(shape) == 4]
    assert len([name for name in convolutions if "downsample" not in name]) + 1 == 200


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_table_says_what_is_built(name: str) -> None:
    one = find_architecture(name)
    with torch.device("meta"):
        net = build_backbone(name)
        maps = net.features(torch.empty(1, 3, one.input_size, one.input_size))
    assert [m.shape[1] for m in maps] == list(one.channels)
    assert [one.input_size // m.shape[2] for m in maps] == list(one.strides)
    kinds = {type(m) for m in net.modules()}
    assert (nn.BatchNorm2d in kinds, nn.LayerNorm in kinds) == (one.norm == "BN", one.norm == "LN")
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    assert one.stem == "x".join(map(str, first.kernel_size))
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == tensor_shapes(name)
    if one.stride_style == "pytorch" and "layer2.0.conv3.weight" in tensor_shapes(name):
        assert net.get_submodule("layer2.0.conv2").stride == (2, 2)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_are_torchvisions(name: str) -> None:
    torch.manual_seed(0)
    ours = build_backbone(name).eval()
    theirs = getattr(resnet, name)(weights=None).eval()
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert missing == ["fc.weight", "fc.bias"]
    assert unexpected == []
    stages = IntermediateLayerGetter(theirs, {f"layer{i}": str(i) for i in range(1, 5)})
    x = torch.randn(2, 3, 70, 97)
    maps = ours.features(x)
    for got, expected in zip(maps, stages(x).values(), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert torch.equal(ours(x), maps[-1])
    assert [tuple(m.shape[2:]) for m in maps] == [(-(-70 // s), -(-97 // s)) for s in (4, 8, 16, 32)]
    assert maps[-1].shape[1] == ours.width


def test_unknown_names_and_bad_splits_are_refused() -> None:
    with pytest.raises(PretrainError, match=r"no backbone 'resnet19'.*resnet18"):
        build_backbone("resnet19")
    with pytest.raises(PretrainError, match="at least 1, not 0"):
        build_backbone("resnet18", bn_splits=0)


def plain_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels).double()
    nn.init.uniform_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("splits", "momentum"), [(1, 0.1), (2, 0.1), (4, 0.1), (2, None)])
def test_split_batch_norm_equals_separate_batches(
    splits: int, momentum: float | None, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    plain = plain_norm(3)
    split = SplitBatchNorm2d(3, splits=splits).double()
    plain.momentum = split.momentum = momentum  # None: running statistics are the means over all batches
    split.load_state_dict(plain.state_dict())
    copies = [copy.deepcopy(plain) for _ in range(splits)]
    for _ in range(3):
        x = (torch.randn(8, 3, 5, 4).double() * 3 + 1).contiguous(memory_format=memory_format)
        x_split, x_parts = x.clone().requires_grad_(), x.clone().requires_grad_()
        target = torch.randn_like(x)
        got = split(x_split)
        expected = torch.cat([norm(part) for norm, part in zip(copies, x_parts.chunk(splits), strict=True)])
        torch.testing.assert_close(got, expected)
        (got * target).sum().backward()
        (expected * target).sum().backward()
        torch.testing.assert_close(x_split.grad, x_parts.grad)
    torch.testing.assert_close(split.weight.grad, sum(norm.weight.grad for norm in copies))
    torch.testing.assert_close(split.bias.grad, sum(norm.bias.grad for norm in copies))
    # Averaging commutes with the moving average, so the copies may run on their own.
    torch.testing.assert_close(split.running_mean, torch.stack([norm.running_mean for norm in copies]).mean(0))
    torch.testing.assert_close(split.running_var, torch.stack([norm.running_var for norm in copies]).mean(0))
    assert split.num_batches_tracked == 3
    plain.load_state_dict(split.state_dict())
    x = torch.randn(5, 3, 2, 2).double()  # in evaluation any batch size goes
    assert torch.equal(split.eval()(x), plain.eval()(x))


def test_split_batch_norm_refuses_a_batch_it_cannot_cut() -> None:
    with pytest.raises(PretrainError, match="batch of 6 images cannot be cut into 4 equal parts"):
        SplitBatchNorm2d(3, splits=4)(torch.zeros(6, 3, 2, 2))


def test_split_backbone_equals_separate_forwards() -> None:
    torch.manual_seed(0)
    split = build_backbone("resnet18", bn_splits=2)
    plain = build_backbone("resnet18")
    plain.load_state_dict(split.state_dict())
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(split(x), torch.cat([copy.deepcopy(plain)(half) for half in x.chunk(2)]))
    assert not torch.allclose(split(x), plain(x), atol=1e-2)


class Foreign(nn.Module):
    """A network that is not of the table."""

    width = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4, eps=0.1, momentum=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


def test_a_given_backbone_is_used_as_it_is() -> None:
    given = Foreign()
    before = {key: value.clone() for key, value in given.state_dict().items()}
    assert backbone_for("never looked at", given, zero_init_residual=True) is given
    assert type(given.norm) is nn.BatchNorm2d
    assert all(torch.equal(value, before[key]) for key, value in given.state_dict().items())
    resnet = build_backbone("resnet18")
    assert backbone_for("", resnet, zero_init_residual=True).layer1[0].bn2.weight.all()


def test_without_one_it_is_built_by_name() -> None:
    assert backbone_for("resnet18", None).layer1[0].bn2.weight.all()
    built = backbone_for("resnet18", None, bn_splits=2, zero_init_residual=True)
    assert not built.layer1[0].bn2.weight.any()
    assert isinstance(built.bn1, SplitBatchNorm2d)
    assert width_of(built) == 512


def test_a_given_backbones_batch_norms_are_split_with_all_that_they_hold() -> None:
    torch.manual_seed(0)
    given = Foreign()
    given(torch.randn(8, 3, 9, 9))
    half = copy.deepcopy(given)
    before = {key: value.clone() for key, value in given.state_dict().items()}
    split = backbone_for("", given, bn_splits=2)
    assert isinstance(split.norm, SplitBatchNorm2d)
    assert split.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in split.state_dict().items())
    x = torch.randn(8, 3, 9, 9)
    torch.testing.assert_close(split(x)[:4], half(x[:4]))  # its own eps, too


@pytest.mark.parametrize("width", [None, 0, "many"])
def test_a_backbone_that_does_not_say_its_width_is_refused(width: object) -> None:
    given = nn.Conv2d(3, 4, 3)
    if width is not None:
        given.width = width  # type: ignore[assignment]
    with pytest.raises(PretrainError, match=r"Conv2d must map images .* and have an attribute `width`"):
        backbone_for("resnet18", given)


@pytest.mark.parametrize(("name", "published"), [("resnet18", 1.81e9), ("resnet50", 4.09e9), ("resnet101", 7.80e9)])
def test_operations_are_those_of_the_convolutions(name: str, published: float) -> None:
    """A plain count over the built network's convolutions, and torchvision's number of multiply-adds."""
    counted = 0

    def count(layer: torch.nn.Module, _inputs: object, maps: torch.Tensor) -> None:
        weight = layer.get_parameter("weight")
        nonlocal counted
        counted += 2 * weight.numel() * maps.shape[2] * maps.shape[3]

    with torch.device("meta"):
        network = build_backbone(name).eval()
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(count)
        network(torch.empty(1, 3, 224, 224))
    assert forward_operations(name) == counted
    assert counted / 2 == pytest.approx(published, rel=0.01)


def test_operations_of_a_transformer() -> None:
    """Attention counts, too: 4.6 G multiply-adds of a ViT-S/16, as its authors say."""
    assert forward_operations("vit_small_patch16") / 2 == pytest.approx(4.6e9, rel=0.01)
