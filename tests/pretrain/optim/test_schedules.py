"""Learning-rate schedules against closed forms and values from published logs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.optim.schedules import CosineSchedule, CurriculumSchedule, Schedule, StepSchedule


def test_cosine_per_epoch_is_mocos() -> None:
    schedule = CosineSchedule(per="epoch")
    for epoch in range(200):
        for step in (epoch * 10, epoch * 10 + 9):
            expected = 0.5 * (1 + math.cos(math.pi * epoch / 200))
            assert schedule.factor(step, 10, 200) == pytest.approx(expected, abs=1e-15)


def test_the_last_epoch_of_densecl_has_the_rate_of_its_log() -> None:
    assert 0.15 * CosineSchedule(per="epoch").factor(199 * 462, 462, 200) == pytest.approx(9.253e-06, rel=1e-4)


def test_cosine_per_step_with_warm_up() -> None:
    schedule = CosineSchedule(per="step", warmup_epochs=2, final=0.1)
    factors = [schedule.factor(step, 5, 10) for step in range(50)]
    assert factors[:10] == pytest.approx([step / 10 for step in range(10)])
    assert factors[10] == 1.0
    assert factors[30] == pytest.approx(0.1 + 0.9 * 0.5)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 39 / 40)))


def test_a_warm_up_may_start_above_zero() -> None:
    """SwAV's from .3 to 4.8, then down to .0048."""
    schedule = CosineSchedule(warmup_epochs=2, warmup_start=0.3 / 4.8, final=1e-3)
    rates = [4.8 * schedule.factor(step, 5, 10) for step in range(50)]
    assert rates[:11] == pytest.approx([0.3 + 4.5 * step / 10 for step in range(11)])
    assert StepSchedule((1,), warmup_epochs=1, warmup_start=0.01).factor(5, 10, 2) == pytest.approx(0.505)
    assert {CosineSchedule(final=1).factor(step, 5, 2) for step in range(10)} == {1.0}


def test_a_warm_up_may_end_at_the_base_rate() -> None:
    """`numpy.linspace` before a cosine that starts with the base rate again, as in the codes of DINO and SwAV."""
    for start, final, per_epoch, epochs, warmup in ((0.0, 1e-3, 7, 9, 2), (0.0625, 1e-3, 4, 5, 1), (0.0, 0.0, 1, 3, 1)):
        schedule = CosineSchedule(warmup_epochs=warmup, warmup_start=start, final=final, warmup_full=True)
        rest = np.arange(per_epoch * (epochs - warmup))
        cosine = final + 0.5 * (1 - final) * (1 + np.cos(np.pi * rest / len(rest)))
        expected = np.concatenate([np.linspace(start, 1, per_epoch * warmup), cosine])
        got = [schedule.factor(step, per_epoch, epochs) for step in range(per_epoch * epochs)]
        assert got == pytest.approx(expected.tolist(), abs=1e-15)


def test_steps_fall_at_the_start_of_their_epoch() -> None:
    schedule = StepSchedule(milestones=(160, 120), gamma=0.1, warmup_epochs=1)
    rates = {epoch: schedule.factor(epoch * 3, 3, 200) for epoch in (0, 1, 119, 120, 159, 160, 199)}
    assert rates == pytest.approx({0: 0, 1: 1, 119: 1, 120: 0.1, 159: 0.1, 160: 0.01, 199: 0.01})
    assert schedule.factor(120 * 3 - 1, 3, 200) == 1


def test_r2os_rate_follows_its_number_of_clusters() -> None:
    """4.8 K / 16 times the cosine after 3 of 300 epochs, as the code has it."""
    schedule = CurriculumSchedule(warmup_epochs=3)
    rates = [4.8 * schedule.factor(epoch * 312, 312, 300) for epoch in (0, 3, 50, 100, 150, 200, 250)]
    assert rates == pytest.approx([0, 38.1, 34.7, 25.3, 13.9, 5.0, 0.74], abs=0.06)
    one = CurriculumSchedule(warmup_epochs=2, final=0.1, clusters=(5, 5), clusters_of_lr=5)
    same = CosineSchedule(warmup_epochs=2, final=0.1)
    assert all(one.factor(step, 7, 9) == pytest.approx(same.factor(step, 7, 9)) for step in range(63))


@given(
    st.one_of(
        st.builds(
            CosineSchedule,
            per=st.sampled_from(["epoch", "step"]),
            warmup_epochs=st.floats(0, 5),
            final=st.floats(0, 1),
            warmup_full=st.booleans(),
        ),
        st.builds(StepSchedule, milestones=st.lists(st.integers(1, 9)).map(tuple), warmup_epochs=st.floats(0, 5)),
    ),
    st.integers(1, 20),
    st.integers(1, 10),
    st.data(),
)
def test_the_factor_stays_within_bounds(schedule: Schedule, per_epoch: int, epochs: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, per_epoch * epochs - 1))
    assert 0 <= schedule.factor(step, per_epoch, epochs) <= 1
