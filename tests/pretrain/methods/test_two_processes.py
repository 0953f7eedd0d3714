"""Two Gloo processes against one on the same global batch: the same losses, gradients and queues.

The rule for batch norm: `bn_splits` counts parts of the global batch, whoever holds them. With two parts, two processes
have one each and one process has both, and nothing differs; a process has at least one part.
"""

from pathlib import Path

import gloo
import pytest
import torch
from contrastive import SMALL, batch, build, sgd
from multicrops import batch as crops
from torch import nn

from pretrain.data.views import View
from pretrain.methods.densecl import DenseCLConfig
from pretrain.methods.mochi import MoCHiConfig
from pretrain.methods.moco import MoCo, MoCoConfig
from pretrain.methods.moco_multicrop import MoCoMultiCropConfig
from pretrain.parts.distributed import gather

STEPS, N = 6, 8
SPLIT = {**SMALL, "bn_splits": 2}
MIXED = {"hardest": 6, "mixed": 4, "mixed_with_query": 3, "warmup": 0.5}
CROPS = {"small_crops": 2, "small_size": 8, "neighbours": 5, "neighbour_warmup": 0.5}
CASES: list[tuple[str, MoCoConfig, bool]] = [
    ("moco without batch norm", MoCoConfig(**SMALL), False),
    ("densecl without batch norm", DenseCLConfig(**SMALL), False),
    ("moco", MoCoConfig(**SPLIT), True),
    ("densecl", DenseCLConfig(**SPLIT), True),
    ("mochi", MoCHiConfig(**SPLIT, **MIXED), True),
    ("moco with small crops and neighbours", MoCoMultiCropConfig(**SPLIT, **CROPS), True),
]


def part(view: View, rank: int, world: int) -> View:
    return View(*(t.chunk(world)[rank] for t in (view.pixels, view.box, view.flip, view.image_id)))


def made(config: MoCoConfig, norm: bool) -> MoCo:
    torch.manual_seed(0)  # of the queue of features
    return build(config, norm=norm)


def train(method: MoCo, rank: int, world: int) -> tuple[list[float], list[torch.Tensor], nn.Module]:
    """Losses and last gradients, both averaged over processes, and the method."""
    optimizer = sgd([method])
    losses = []
    small = len(method.plan.specs) - 2
    for step in range(1, STEPS + 1):
        torch.manual_seed(step)  # as the training loop does
        views = crops(N, step, small=small) if small else batch(N, step)
        loss = method([part(view, rank, world) for view in views])["loss"]
        losses.append(gather(loss.detach()[None]).mean().item())
        optimizer.zero_grad()
        loss.backward()
        for p in method.parameters():
            if p.grad is not None:
                p.grad = gather(p.grad[None]).mean(0)
        optimizer.step()
        method.after_step(step, STEPS)
    return losses, [p.grad for p in method.parameters() if p.grad is not None], method


def check(rank: int, world: int, folder: Path) -> None:
    for name, config, norm in CASES:
        losses, gradients, method = train(made(config, norm), rank, world)
        queues = {key: value for key, value in method.state_dict().items() if "queue" in key}
        torch.save((losses, gradients, queues, dict(method.named_parameters())), folder / f"{name}-{rank}.pt")


@pytest.mark.slow
def test_two_gloo_processes_train_as_one(tmp_path: Path) -> None:
    gloo.run(check, 2, tmp_path)
    for name, config, norm in CASES:
        losses, gradients, method = train(made(config, norm), 0, 1)
        results = [torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)]
        for their_losses, their_gradients, queues, parameters in results:
            assert their_losses == pytest.approx(losses, rel=1e-12), name
            torch.testing.assert_close(their_gradients, gradients, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(parameters, dict(method.named_parameters()), rtol=1e-9, atol=1e-12)
            for key, value in queues.items():
                assert torch.equal(value, results[0][2][key]), (name, key)  # equal on all ranks, bit by bit
                torch.testing.assert_close(value, method.state_dict()[key], rtol=1e-9, atol=1e-12)
        assert queues["queue.pointer"] == STEPS * N % SMALL["queue"]
