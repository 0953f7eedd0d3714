import copy
import json
import math
from pathlib import Path

import geometric
import pytest
import torch
from contrastive import sgd
from geometric import SIDE, batch, stopped_and_trained, train
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.data.views import View
from pretrain.methods import all_recipes, slotcon
from pretrain.methods.slotcon import RECIPES, SlotCon, SlotConConfig, cross_entropy_sums, slot_head
from pretrain.optim.optimizers import LARSConfig
from pretrain.parts import turns
from pretrain.parts.geometry import align, cell_centres, overlap, upright
from pretrain.recipes import CosineSchedule

CURVE = Path(__file__).parent / "curves" / "slotcon.json"
K = 6
SMALL = {"backbone": "toy", "hidden": 9, "dim": 5, "prototypes": K, "view_size": 16, "momentum": 0.9}
PAIRS = [("backbone", "student_backbone"), ("teacher.projector", "projector"), ("teacher.prototypes", "prototypes")]
CELLS = [(r, c) for r in range(SIDE) for c in range(SIDE)]


def make(seed: int = 0, *, norm: bool = True, **changes: object) -> SlotCon:
    config = SlotConConfig(**{**SMALL, **changes})  # type: ignore[arg-type]
    return geometric.build(config, norm=norm, seed=seed)


def plain_grouped(x: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor, list[set[int]]]:
    """Cosines (N, K, S, S), slots (N, K, D) and each image's present slots, cell by cell."""
    n = len(x)
    scores = torch.stack(
        [F.cosine_similarity(x, prototypes[k][None, :, None, None], dim=1) for k in range(len(prototypes))], dim=1
    )
    share = (scores / 0.07).exp() / (scores / 0.07).exp().sum(1, keepdim=True) + 1e-6
    slots = []
    for i in range(n):
        for k in range(K):
            weights = [share[i, k, r, c] for r, c in CELLS]
            slots.append(sum(w * x[i, :, r, c] for w, (r, c) in zip(weights, CELLS, strict=True)) / sum(weights))
    present = [{int(scores[i, :, r, c].argmax()) for r, c in CELLS} for i in range(n)]
    return scores, torch.stack(slots).view(n, K, -1), present


def plain_align(scores: Tensor, view: View, other: View) -> dict[tuple[int, int, int], Tensor]:
    """(image, row, column) of a grid over what both views show -> cosines there, interpolated by hand."""
    found = {}
    for i in range(len(scores)):
        a, b = view.box[i].tolist(), other.box[i].tolist()
        x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
        if x1 >= x2 or y1 >= y2:
            continue
        for r, c in CELLS:
            u = (x1 + (c + 0.5) / SIDE * (x2 - x1) - a[0]) / (a[2] - a[0])
            v = (y1 + (r + 0.5) / SIDE * (y2 - y1) - a[1]) / (a[3] - a[1])
            u = 1 - u if bool(view.flip[i]) else u
            column, row = (min(max(t * SIDE - 0.5, 0), SIDE - 1) for t in (u, v))
            left, top = min(int(column), SIDE - 2), min(int(row), SIDE - 2)
            dx, dy = column - left, row - top
            m = scores[i]
            found[i, r, c] = (1 - dy) * ((1 - dx) * m[:, top, left] + dx * m[:, top, left + 1]) + dy * (
                (1 - dx) * m[:, top + 1, left] + dx * m[:, top + 1, left + 1]
            )
    return found


def plain_loss(
    views: list[View], student: nn.ModuleList, teacher: nn.ModuleList, predictor: nn.Module, centre: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss, and the teacher's mean cosines; networks are backbone, projector and prototypes."""
    s = [plain_grouped(student[1](student[0](v.pixels)), student[2].weight) for v in views]
    with torch.no_grad():
        t = [plain_grouped(teacher[1](teacher[0](v.pixels)), teacher[2].weight) for v in views]
    loss = torch.zeros((), dtype=centre.dtype)
    for a, b in ((0, 1), (1, 0)):
        mine, theirs = plain_align(s[a][0], views[a], views[b]), plain_align(t[b][0], views[b], views[a])
        assert mine.keys() == theirs.keys()
        for place, scores in mine.items():
            wanted = F.softmax((theirs[place] - centre) / 0.07, dim=0)
            loss = loss - 0.5 * (wanted * F.log_softmax(scores / 0.1, dim=0)).sum() / len(mine)
        keys = [(i, k) for i in range(len(t[b][2])) for k in sorted(t[b][2][i])]
        queries = [(i, k) for i, k in keys if k in s[a][2][i]]
        predicted = predictor(torch.stack([s[a][1][i, k] for i, k in queries]))
        for row, query in zip(predicted, queries, strict=True):
            logits = torch.stack([F.cosine_similarity(row, t[b][1][i, k], dim=0) for i, k in keys]) / 0.2
            loss = loss - 0.5 * 2 * 0.2 * F.log_softmax(logits, dim=0)[keys.index(query)] / len(queries)
    return loss, torch.cat([t[0][0], t[1][0]]).mean((0, 2, 3))


def plain_curve(start: SlotCon, n: int, steps: int) -> list[float]:
    """The training in the order of the authors' code: the teacher moves before it sees the views, the centre after."""
    student = copy.deepcopy(nn.ModuleList([start.student_backbone, start.projector, start.prototypes]))
    teacher, predictor = copy.deepcopy(student), copy.deepcopy(start.predictor)
    centre = torch.zeros(K, dtype=torch.float64)
    optimizer = sgd([student, predictor])
    losses = []
    for k in range(steps):
        m = 1 - (1 - start.config.momentum) * (math.cos(math.pi * k / steps) + 1) / 2
        for p, p_t in zip(student.parameters(), teacher.parameters(), strict=True):
            p_t.data = m * p_t.data + (1 - m) * p.data
        loss, mean = plain_loss(batch(n, (k + 1) % 8), student, teacher, predictor, centre)
        centre = 0.9 * centre + 0.1 * mean
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_is_the_papers_code() -> None:
    """Cell by cell and slot by slot, with an image whose views share nothing."""
    assert train(make(), 4, 3) == pytest.approx(plain_curve(make(), 4, 3), rel=1e-9)


def test_training_gives_the_recorded_losses() -> None:
    """32 steps in float64, recorded from the plain loop; a change of this curve is a change of the method."""
    got = train(make(), 4, 32)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert sum(got[-8:]) < sum(got[:8])  # it learns


def test_slots_are_weighted_means_of_cells() -> None:
    method = make()
    x = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    group = method.grouped(x, method.prototypes.weight)
    assert group.scores.shape == (2, K, 3, 3)
    assert group.slots.shape == (2, K, 5)
    assert group.scores.abs().max() <= 1 + 1e-12
    # equal cells: every slot is that cell, and all cells choose one slot
    same = x[:, :, :1, :1].expand(-1, -1, 3, 3)
    group = method.grouped(same, method.prototypes.weight)
    torch.testing.assert_close(group.slots, same[:, None, :, 0, 0].expand(-1, K, -1))
    assert torch.equal(group.present.sum(1), torch.ones(2, dtype=torch.int64))
    assert torch.equal(group.present.int().argmax(1), group.scores[:, :, 0, 0].argmax(1))
    # the length of a prototype does not matter, that of a cell does for the slots
    longer = method.grouped(x, 3 * method.prototypes.weight)
    torch.testing.assert_close(longer.slots, method.grouped(x, method.prototypes.weight).slots)


def test_equal_maps_align_to_equal_places() -> None:
    """Maps that hold their cells' places agree wherever both views look, whatever the flips."""
    views = batch(6, 2)
    box, exists = overlap(*views)
    assert not exists[-1] and exists.sum() >= 4
    shared = upright(box)
    assert not shared.flip.any()
    centres = cell_centres(shared, SIDE).permute(0, 3, 1, 2)
    for view in views:
        places = cell_centres(view, 64).permute(0, 3, 1, 2)
        aligned, inside = align(places, view, shared, SIDE)
        assert inside[exists].all()
        torch.testing.assert_close(aligned[exists], centres[exists], rtol=0, atol=1 / 64)


def test_images_without_a_common_place_are_left_out_of_the_grouping() -> None:
    method = make()
    views = batch(4, 0)
    maps = torch.randn(4, K, SIDE, SIDE, dtype=torch.float64)
    exists = overlap(*views)[1]
    assert not exists[-1]
    some = method.grouping(maps, maps.roll(1, 0), exists)
    torch.testing.assert_close(
        some, method.grouping(maps[:3], maps.roll(1, 0)[:3], exists[:3]) * exists[:3].sum() / exists.sum()
    )
    assert method.grouping(maps, maps, torch.zeros(4, dtype=torch.bool)) == 0


def test_grouping_is_least_where_the_student_agrees() -> None:
    """Cross entropy of a sharp teacher: 0 for the same choice, log K for an undecided student."""
    method = make()
    choice = 20 * F.one_hot(torch.arange(2 * SIDE**2) % K, K).double().view(2, SIDE, SIDE, K).permute(0, 3, 1, 2)
    all_of_them = torch.ones(2, dtype=torch.bool)
    assert method.grouping(choice, choice, all_of_them).item() == pytest.approx(0, abs=1e-12)
    assert method.grouping(0 * choice, choice, all_of_them).item() == pytest.approx(math.log(K))


def contrast(method: SlotCon, student: slotcon.Grouped, teacher: slotcon.Grouped) -> slotcon.Contrast:
    return method.contrast(student, teacher, *slotcon.choose([(student, teacher)]))


def test_no_information_costs_the_log_of_all_slots() -> None:
    """All slots alike: 2 tau log M for M keys of the batch."""
    method = make(norm=False)
    scores = F.one_hot(torch.arange(2 * SIDE**2) % 2, K).double().view(2, SIDE, SIDE, K).permute(0, 3, 1, 2)
    group = slotcon.Grouped(scores, torch.ones(2, K, 5, dtype=torch.float64))
    method.predictor = nn.Identity()
    out = contrast(method, group, group)
    assert out.loss.item() == pytest.approx(2 * 0.2 * math.log(4))
    assert out.positive.item() == pytest.approx(1)
    assert out.negative.item() == pytest.approx(1)


def test_slots_take_part_where_both_views_have_them() -> None:
    method = make()
    first = torch.zeros(2, K, SIDE, SIDE, dtype=torch.float64)
    second = first.clone()
    first[:, 1, :, :2], first[:, 2, :, 2:] = 1, 1  # slots 1 and 2
    second[:, 2, :, :2], second[:, 3, :, 2:] = 1, 1  # slots 2 and 3
    torch.manual_seed(0)
    slots = [torch.randn(2, K, 5, dtype=torch.float64) for _ in range(2)]
    method.predictor = nn.Identity()
    out = contrast(method, slotcon.Grouped(first, slots[0]), slotcon.Grouped(second, slots[1]))
    keys = F.normalize(torch.stack([slots[1][0, 2], slots[1][0, 3], slots[1][1, 2], slots[1][1, 3]]), dim=1)
    queries = F.normalize(torch.stack([slots[0][0, 2], slots[0][1, 2]]), dim=1)
    expected = 2 * 0.2 * F.cross_entropy(queries @ keys.T / 0.2, torch.tensor([0, 2]))
    torch.testing.assert_close(out.loss, expected)
    torch.testing.assert_close(out.queries, queries)
    similarity = queries @ keys.T
    positive = (similarity[0, 0] + similarity[1, 2]) / 2
    torch.testing.assert_close(out.positive, positive)
    torch.testing.assert_close(out.negative, (similarity.sum() - 2 * positive) / 6)
    correct = similarity.argmax(1) == torch.tensor([0, 2])
    torch.testing.assert_close(out.accuracy, correct.float().mean())


def test_without_a_common_slot_the_contrast_is_zero() -> None:
    method = make()
    scores = torch.zeros(2, 2, K, SIDE, SIDE, dtype=torch.float64)
    scores[0, :, 0], scores[1, :, 1] = 1, 1
    slots = torch.randn(2, K, 5, dtype=torch.float64, requires_grad=True)
    out = contrast(method, slotcon.Grouped(scores[0], slots), slotcon.Grouped(scores[1], slots.detach()))
    assert out.loss == 0
    out.loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in method.predictor.parameters())


def test_cross_entropy_in_parts_is_that_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    keys, labels = torch.randn(7, 5).double(), torch.randint(7, (11,))
    results = []
    for limit in (1 << 20, 21):  # at once; three queries at a time
        monkeypatch.setattr(turns, "MAX_LOGITS", limit)
        queries = torch.randn(11, 5, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
        loss, correct = cross_entropy_sums(queries, keys, labels, 0.2)
        loss.backward()
        results.append((loss.detach(), correct, queries.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_stop_at_the_teacher() -> None:
    method = make()
    out = method(batch(4, 0))
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    torch.testing.assert_close(out["loss"].detach(), 0.5 * out["loss_grouping"] + 0.5 * out["loss_slots"])
    out["loss"].backward()
    stopped, _ = stopped_and_trained(method)
    assert stopped == {name for name, _ in method.named_parameters() if name.startswith(("backbone.", "teacher."))}
    assert all(method.get_parameter(name).grad is None for name in stopped)


def test_weights_of_the_two_losses() -> None:
    views = batch(4, 0)
    for weight in (0.0, 0.3, 1.0):
        out = make(grouping_weight=weight)(views)
        expected = weight * out["loss_grouping"] + (1 - weight) * out["loss_slots"]
        torch.testing.assert_close(out["loss"].detach(), expected)
    method = make(grouping_weight=1.0)
    method(views)["loss"].backward()
    assert all(not p.grad.any() for p in method.predictor.parameters())


def test_after_step_moves_the_teacher_and_its_centre() -> None:
    method = make(momentum=0.75)
    start = copy.deepcopy(method)
    views = batch(4, 0)
    method(views)
    assert torch.equal(method.centre, start.centre)  # forward only reads
    for name, p in method.named_parameters():
        if p.requires_grad and not name.startswith("predictor."):
            p.data.add_(1.0)
    method.after_step(2, 4)
    for target, source in PAIRS:
        for name, theta in method.get_submodule(source).named_parameters():
            old = start.get_submodule(target).get_parameter(name)
            new = method.get_submodule(target).get_parameter(name)
            torch.testing.assert_close(new, 0.875 * old + 0.125 * theta.data)  # half way from 0.75 to 1
    cosines = [
        start.grouped(start.teacher.projector(start.backbone(v.pixels)), start.teacher.prototypes.weight).scores
        for v in views
    ]
    torch.testing.assert_close(method.centre, 0.1 * torch.cat(cosines).mean((0, 2, 3)).detach())
    centre = method.centre.clone()
    method.after_step(3, 4)  # without a forward pass there is nothing to follow
    assert torch.equal(method.centre, centre)


def test_heads_are_the_papers() -> None:
    for dense, kind in ((True, nn.Conv2d), (False, nn.Linear)):
        head = slot_head(200, 300, 50, dense=dense)
        assert [type(m).__name__ for m in head][1:3] == [f"BatchNorm{2 if dense else 1}d", "GELU"]
        linears = [m for m in head if isinstance(m, kind)]
        assert [tuple(m.weight.shape[:2]) for m in linears] == [(300, 200), (300, 300), (50, 300)]
        assert all(not m.bias.any() for m in linears)
        assert all(abs(m.weight.std().item() - 0.02) < 1e-3 for m in linears)


def test_paper_recipes_have_the_papers_settings() -> None:
    recipes = all_recipes()
    assert {recipe.name for recipe in RECIPES} <= set(recipes)
    for name, epochs, prototypes in (
        ("slotcon-imagenet-100ep", 100, 2048),
        ("slotcon-imagenet-200ep", 200, 2048),
        ("slotcon-coco-800ep", 800, 256),
    ):
        recipe = recipes[name]
        assert (recipe.epochs, recipe.batch_size) == (epochs, 512)
        assert recipe.optimizer == LARSConfig(lr=2.0, momentum=0.9, weight_decay=1e-5, exclude_norm_bias=True)
        assert isinstance(recipe.schedule, CosineSchedule)
        assert (recipe.schedule.per, recipe.schedule.warmup_epochs, recipe.schedule.warmup_start) == ("step", 5, 0.01)
        config = recipe.method
        assert isinstance(config, SlotConConfig)
        assert (config.hidden, config.dim, config.prototypes, config.momentum) == (4096, 256, prototypes, 0.99)
        assert (config.student_temperature, config.teacher_temperature, config.contrast_temperature) == (0.1, 0.07, 0.2)
        assert (config.grouping_weight, config.centre_momentum) == (0.5, 0.9)
    plan = SlotConConfig(backbone="resnet18", hidden=8).build().plan
    assert [(s.size, s.scale, s.flip, s.interpolation) for s in plan.specs] == [(224, (0.08, 1.0), 0.5, "bicubic")] * 2
    assert [s.overlap for s in plan.specs] == [None, ("first", 0.01)]
