import torch
from torch import nn

from pretrain.nets.architectures import build_backbone
from pretrain.nets.heads import dense_head, init_openselfsup, mlp_head, norm_head


def test_dense_head_is_the_mlp_at_every_cell() -> None:
    mlp, dense = mlp_head(6, 7, 4), dense_head(6, 7, 4)
    for linear, conv in ((mlp[0], dense[0]), (mlp[2], dense[2])):
        conv.load_state_dict({"weight": linear.weight.data[:, :, None, None], "bias": linear.bias.data})
    x = torch.randn(3, 6, 2, 5)
    got = dense(x)
    assert got.shape == (3, 4, 2, 5)
    for row in range(2):
        for column in range(5):
            torch.testing.assert_close(got[:, :, row, column], mlp(x[:, :, row, column]))


def test_heads_have_biases_and_no_norm() -> None:
    for head in (mlp_head(6, 7, 4), dense_head(6, 7, 4)):
        assert sorted(head.state_dict()) == ["0.bias", "0.weight", "2.bias", "2.weight"]


def test_openselfsup_init_is_kaiming_fan_in() -> None:
    torch.manual_seed(0)
    backbone, head, dense = build_backbone("resnet18"), mlp_head(512, 512, 128), dense_head(512, 512, 128)
    before = [p.clone() for p in dense.parameters()]
    init_openselfsup(backbone, nn.ModuleList([head, dense]))
    weight = backbone.layer3[0].conv1.weight  # 128 -> 256 channels: fan-in and fan-out differ
    for tensor, fan_in in ((weight, 128 * 9), (head[0].weight, 512), (head[2].weight, 512)):
        expected = (2 / fan_in) ** 0.5
        assert abs(tensor.std().item() / expected - 1) < 0.02
        assert abs(tensor.mean().item()) < 4 * expected / tensor.numel() ** 0.5
    assert not head[0].bias.any()
    assert not head[2].bias.any()
    assert all(torch.equal(a, b) for a, b in zip(before, dense.parameters(), strict=True))


def layers(head: nn.Sequential) -> list[str]:
    """Each layer in short: its type, and `+b` for a trained bias or shift."""
    trained = [{name for name, p in layer.named_parameters() if p.requires_grad} for layer in head]
    return [
        type(layer).__name__ + "".join(f"+{n[0]}" for n in sorted(names))
        for layer, names in zip(head, trained, strict=True)
    ]


def test_heads_of_the_papers() -> None:
    norm = "BatchNorm1d+b+w"
    byol = norm_head(6, 8, 4, bias=True)
    assert layers(byol) == ["Linear+b+w", norm, "ReLU", "Linear+w"]
    simclr = norm_head(6, 6, 4, last_norm="scale")
    assert layers(simclr) == ["Linear+w", norm, "ReLU", "Linear+w", "BatchNorm1d+w"]
    simsiam = norm_head(6, 8, 8, 8, last_norm="plain")
    assert layers(simsiam) == ["Linear+w", norm, "ReLU", "Linear+w", norm, "ReLU", "Linear+w", "BatchNorm1d"]
    assert layers(norm_head(8, 3, 8, last_bias=True)) == ["Linear+w", norm, "ReLU", "Linear+b+w"]
    assert layers(norm_head(6, 8, 4, bias=True, last_bias=True)) == ["Linear+b+w", norm, "ReLU", "Linear+b+w"]
    assert simclr(torch.randn(5, 6)).shape == byol(torch.randn(5, 6)).shape == (5, 4)


def test_a_dense_norm_head_is_the_perceptron_at_every_cell() -> None:
    torch.manual_seed(0)
    vectors, maps = norm_head(6, 8, 4, bias=True), norm_head(6, 8, 4, bias=True, dense=True)
    for name, value in vectors.state_dict().items():
        maps.state_dict()[name].copy_(value.view(maps.state_dict()[name].shape))
    x = torch.randn(3, 6, 2, 5)
    torch.testing.assert_close(maps(x).movedim(1, -1).flatten(0, 2), vectors(x.movedim(1, -1).flatten(0, 2)))
