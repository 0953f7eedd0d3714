from pathlib import Path

import gloo
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretrain.parts.distributed import (
    batch_permutation,
    exchange_plan,
    gather,
    gather_with_grad,
    inverse,
    rank,
    reorder,
    world_size,
)


@given(n=st.integers(1, 300), seed=st.integers(0, 2**40), step=st.integers(0, 2**33))
def test_permutations_depend_on_seed_and_step_alone(n: int, seed: int, step: int) -> None:
    permutation = batch_permutation(n, seed, step)
    torch.manual_seed(0)  # the global generator has no say
    assert torch.equal(permutation, batch_permutation(n, seed, step))
    assert torch.equal(permutation.sort().values, torch.arange(n))
    assert torch.equal(permutation[inverse(permutation)], torch.arange(n))


def test_permutations_change_with_seed_and_step() -> None:
    drawn = {tuple(batch_permutation(32, seed, step).tolist()) for seed in range(8) for step in range(8)}
    assert len(drawn) == 64


def simulated_reorder(parts: list[torch.Tensor], permutation: torch.Tensor) -> list[torch.Tensor]:
    """`reorder` on every process, with the network played by lists."""
    world = len(parts)
    plans = [exchange_plan(permutation, r, world) for r in range(world)]
    results = []
    for receiver, (_, received, order) in enumerate(plans):
        mail = [parts[sender][plans[sender][0][receiver]] for sender in range(world)]
        assert [len(m) for m in mail] == received
        results.append(torch.cat(mail)[order])
    return results


@given(world=st.integers(1, 4), n=st.integers(1, 9), seed=st.integers(0, 1000))
def test_reorder_is_gather_permute_slice_and_is_undone(world: int, n: int, seed: int) -> None:
    whole = torch.arange(world * n * 2.0).view(world * n, 2)
    parts = list(whole.chunk(world))
    permutation = batch_permutation(world * n, seed, 0)
    shuffled = simulated_reorder(parts, permutation)
    assert torch.equal(torch.cat(shuffled), whole[permutation])
    assert torch.equal(torch.cat(simulated_reorder(shuffled, inverse(permutation))), whole)


def test_alone_nothing_is_exchanged() -> None:
    x = torch.randn(6, 2, requires_grad=True)
    permutation = batch_permutation(6, 1, 2)
    assert (rank(), world_size()) == (0, 1)
    assert gather(x) is x
    assert gather_with_grad(x) is x
    assert torch.equal(reorder(x, permutation), x[permutation])
    assert torch.equal(reorder(reorder(x, permutation), inverse(permutation)), x)
    assert not reorder(x, permutation).requires_grad


def check(rank_: int, world: int, folder: Path) -> None:
    assert (rank(), world_size()) == (rank_, world)
    n = 4
    whole = torch.arange(world * n * 12.0).view(world * n, 3, 2, 2)
    for dtype in (torch.float32, torch.bfloat16, torch.int64):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = whole.to(dtype).contiguous(memory_format=memory_format)
            mine = x.chunk(world)[rank_]
            permutation = batch_permutation(world * n, 5, 7)
            shuffled = reorder(mine, permutation)
            assert torch.equal(shuffled, x[permutation].chunk(world)[rank_])
            assert torch.equal(reorder(shuffled, inverse(permutation)), mine)
            assert torch.equal(gather(mine), x)

    # A loss over all pairs of the gathered batch: averaged gradients are those of one process.
    torch.manual_seed(0)
    weight, images = torch.randn(4, 3, dtype=torch.float64), torch.randn(world * n, 4, dtype=torch.float64)

    def loss(z: torch.Tensor) -> torch.Tensor:
        return (z @ z.T).exp().mean()

    ours, alone = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    loss(gather_with_grad(images.chunk(world)[rank_] @ ours)).backward()
    torch.distributed.all_reduce(ours.grad)
    loss(images @ alone).backward()
    torch.testing.assert_close(ours.grad / world, alone.grad, rtol=1e-12, atol=1e-12)
    (folder / f"done{rank_}").touch()


def test_two_gloo_processes(tmp_path: Path) -> None:
    gloo.run(check, 2, tmp_path)
    assert sorted(p.name for p in tmp_path.glob("done*")) == ["done0", "done1"]
