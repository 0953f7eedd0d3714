"""How often the tests err, what they find, and whether intervals cover: `python -m leaderboard.simulation`.

Boards of made-up methods with known true means go through the functions that make the tables and, for comparison,
through what was used before: Holm's correction over all pairs of a table, and bootstrap intervals over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from cyclopts import run
from rich.table import Table

from leaderboard.base.terminal import Console
from leaderboard.comparison import Contest, leader, rank_intervals, tiers
from leaderboard.ranking import score
from leaderboard.stats import LEVEL, Estimate, Floats, summarise, weighted_sum

BOARDS = 1000
GAP = 4.0
SEEDS = 3
METHODS = 20


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Noise of mean 0 and standard deviation 1."""
    return rng.standard_normal(shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """A reflected exponential distribution: now and then a run is much worse (skewness -2)."""
    return 1 - rng.standard_exponential(shape)


def uneven(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Normal noise with another standard deviation, .5 to 2, for each method; the mean of their squares is 1."""
    sd = np.geomspace(0.5, 2, shape[0])
    return rng.standard_normal(shape) * rng.permutation(sd / np.sqrt((sd**2).mean()))[:, None]


Noise = Callable[[np.random.Generator, tuple[int, ...]], Floats]
NOISES: Sequence[Noise] = (normal, skewed, uneven)


def contest_of(values: Floats) -> Contest:
    """The contest of runs with `values` (methods, seeds)."""
    return Contest([summarise([row.tolist()]) for row in values])


def differs_over_all_pairs(contest: Contest) -> Floats:
    """Pairs (k, k) that differ with Holm's correction over all pairs of the table, as before."""
    k = len(contest.mean)
    p = contest.p_values(np.arange(k), np.arange(k))
    i, j = np.triu_indices(k, 1)
    order = np.argsort(p[i, j])
    adjusted = np.maximum.accumulate(p[i, j][order] * np.arange(len(order), 0, -1))
    different = np.zeros((k, k))
    different[i[order], j[order]] = adjusted < LEVEL
    return different + different.T


SCENES: Mapping[str, Floats] = {
    "all equal (error)": np.zeros(METHODS),
    "two equal bests (error)": np.array([GAP, GAP, *[0.0] * (METHODS - 2)]),
    "one best, the others equal (power)": np.array([GAP, *[0.0] * (METHODS - 1)]),
    "a ladder (power)": -GAP * np.arange(METHODS, dtype=np.float64),
}
"""True means, in standard deviations of a seed; neighbors are `GAP` apart where they are not equal."""


def best_row(rng: np.random.Generator, noise: Noise, boards: int) -> list[str]:
    """How often a row is shown as better than every other, now and with Holm over all pairs, in per cent; and how often
    two equal bests are in two tiers."""
    shown = {name: np.zeros(2) for name in SCENES}
    apart = 0
    for _ in range(boards):
        for name, means in SCENES.items():
            contest = contest_of(50 + means[:, None] + noise(rng, (METHODS, SEEDS)))
            before = differs_over_all_pairs(contest)[np.argmax(contest.mean)].sum() == METHODS - 1
            shown[name] += [leader(contest) is not None, before]
            if name == "two equal bests (error)":
                found = tiers(contest)
                apart += found[0] != found[1]
    return [f"{100 * count / boards:.1f}" for counts in shown.values() for count in counts] + [
        f"{100 * apart / boards:.1f}"
    ]


def ranks(rng: np.random.Generator, noise: Noise, boards: int) -> list[str]:
    """Coverage and width of rank intervals over methods whose true means spread by 3 standard deviations of a seed."""
    covered, width = np.zeros(2), np.zeros(2)
    for _ in range(boards):
        means = 3 * rng.standard_normal(METHODS)
        contest = contest_of(50 + means[:, None] + noise(rng, (METHODS, SEEDS)))
        true = 1 + (means > means[:, None]).sum(1)
        within = np.array(rank_intervals(contest))
        different, better = differs_over_all_pairs(contest), contest.mean[:, None] > contest.mean
        before = np.stack([1 + (different * ~better).sum(1), METHODS - (different * better).sum(1)], 1)
        for i, interval in enumerate((within, before)):
            covered[i] += ((interval[:, 0] <= true) & (true <= interval[:, 1])).mean()
            width[i] += (interval[:, 1] - interval[:, 0]).mean()
    return [f"{100 * covered[i] / boards:.1f}" for i in (0, 1)] + [f"{width[i] / boards:.1f}" for i in (0, 1)]


PROTOCOLS = np.array([[40.0, 20.0], [8.0, 3.0], [60.0, 35.0], [25.0, 22.0]])
"""True values of a method and of random initialization under four protocols."""
SHARED = 0.8
"""Correlation of two protocols' values of the same pretraining run."""


def scores(rng: np.random.Generator, noise: Noise, boards: int, runs: int) -> list[str]:
    """Coverage of an overall score's interval over `PROTOCOLS`, in per cent: with runs of their own under each, and of
    the bootstrap that was used before; with the same pretraining runs under all, and if they are taken for others."""
    true = float(np.mean([100 * (x - r) / (100 - r) for x, r in PROTOCOLS]))
    shape = (len(PROTOCOLS), 2, runs)
    covered = np.zeros(4)
    for _ in range(boards):
        own, common = noise(rng, shape), noise(rng, (1, *shape[1:]))
        apart = PROTOCOLS[:, :, None] + own
        draws = np.mean([100 * (_bootstrap(rng, x) - r.mean()) / (100 - r.mean()) for x, r in apart], axis=0)
        shared = PROTOCOLS[:, :, None] + SHARED**0.5 * common + (1 - SHARED) ** 0.5 * own
        intervals = (
            _overall(apart).interval,
            np.quantile(draws, (LEVEL / 2, 1 - LEVEL / 2)).tolist(),
            _overall(shared, known=True).interval,
            _overall(shared).interval,
        )
        covered += [low <= true <= high for low, high in filter(None, intervals)]
    return [f"{100 * found / boards:.1f}" for found in covered]


def _overall(values: Floats, *, known: bool = False) -> Estimate:
    """The overall score from values (protocols, 2, runs) of a method and of random initialization.

    With `known`, the runs are known to be the same under all protocols.
    """
    parts = []
    for both in values:
        names = [tuple(f"{row} {run}" for run in range(len(both[0]))) if known else () for row in ("method", "random")]
        x, r = (summarise([[v] for v in row], checkpoints=n) for row, n in zip(both.tolist(), names, strict=True))
        parts.append(score(x, r))
    return weighted_sum((1 / len(parts), part) for part in parts)


def _bootstrap(rng: np.random.Generator, values: Floats, resamples: int = 400) -> Floats:
    """Bootstrap means, stretched to the variance of the mean."""
    n = len(values)
    means: Floats = values[rng.integers(0, n, (resamples, n))].mean(1)
    return values.mean() + (means - values.mean()) * (n / (n - 1)) ** 0.5


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def main(boards: int = BOARDS) -> None:
    """Print the tables; each present test is followed by the one used before.

    Parameters
    ----------
    boards
        Boards per row.
    """
    rng = np.random.default_rng(0)
    console = Console(width=160)
    before = "with Holm over all pairs"
    best = _table(
        f"{METHODS} methods, {SEEDS} seeds, {boards} boards: how often a row is shown as better than every other, in %",
        ["noise", *(column for name in SCENES for column in (name, before)), "two equal bests in two tiers (error)"],
    )
    ranking = _table(
        f"Rank intervals of {METHODS} methods, true means spread by 3 sd: coverage in % and mean width",
        ["noise", "coverage", before, "width", before],
    )
    overall = _table(
        "Overall score of four protocols: coverage of its 95 % interval, in %",
        ["noise", "runs", "runs of their own", "bootstrap of them", "the same runs", "taken for others"],
    )
    for noise in NOISES:
        best.add_row(noise.__name__, *best_row(rng, noise, boards))
        ranking.add_row(noise.__name__, *ranks(rng, noise, boards))
        if noise is not uneven:
            for runs in (2, 3, 5):
                overall.add_row(noise.__name__, str(runs), *scores(rng, noise, 2 * boards, runs))
    for table in (best, ranking, overall):
        console.print(table)


if __name__ == "__main__":
    run(main)
