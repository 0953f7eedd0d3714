import pytest
import torch

from pretrain.parts.distributed import batch_permutation
from pretrain.parts.shuffling import Shuffle


def test_undo_takes_the_rows_back() -> None:
    x = torch.arange(12.0).view(6, 2)
    torch.manual_seed(0)
    for shuffle in (Shuffle.keyed(6, 2, seed=3, step=1), Shuffle.drawn(6, 2)):
        assert not torch.equal(shuffle(x), x)
        assert torch.equal(shuffle.undo(shuffle(x)), x)


@pytest.mark.parametrize("splits", [1, 2])
def test_a_key_draws_nothing_and_a_draw_follows_the_generator(splits: int) -> None:
    torch.manual_seed(0)
    keyed = Shuffle.keyed(8, splits, seed=3, step=1)
    drawn = Shuffle.drawn(8, splits)
    torch.manual_seed(0)
    if splits == 1:
        assert keyed.permutation is None and drawn.permutation is None
        x = torch.randn(8, 2)
        assert keyed(x) is x and drawn.undo(x) is x
    else:
        assert keyed.permutation is not None and drawn.permutation is not None
        assert torch.equal(keyed.permutation, batch_permutation(8, 3, 1))
        assert torch.equal(drawn.permutation, torch.randperm(8))
