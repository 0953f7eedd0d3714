import pytest
import torch
from torch import Tensor

from pretrain.parts import turns
from pretrain.parts.turns import in_turns, rows_at_once


def test_rows_fill_what_may_be_held_and_are_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_LOGITS", 21)
    assert [rows_at_once(columns) for columns in (1, 7, 10, 21, 22, 1000)] == [21, 3, 2, 1, 1, 1]


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 10])
def test_parts_are_in_order_with_the_gradients_of_the_whole(rows: int) -> None:
    seen: list[int] = []

    def function(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(x))
        return (x * y).exp(), y

    torch.manual_seed(0)
    x, y = torch.randn(7, 2, requires_grad=True), torch.randn(7, 2)
    first, second = (torch.cat(parts) for parts in zip(*in_turns(function, rows, x, y), strict=True))
    assert seen == [min(rows, 7 - start) for start in range(0, 7, rows)]
    assert torch.equal(second, y)
    first.sum().backward()
    torch.testing.assert_close(x.grad, (x * y).exp().detach() * y)
    assert len(seen) == len(range(0, 7, rows)) * (1 if rows >= 7 else 2)  # made again, not kept
