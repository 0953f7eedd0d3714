"""The command that says how much must be run to decide a difference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.common import COMPARE, DEFAULT_WORK, AsJson, Work, app, print_json, print_table
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.planning import Option


@app.command(group=COMPARE)
def plan(
    *,
    difference: float,
    track: str = "mini",
    power: float = 0.8,
    results: Path | None = None,
    work: Work = DEFAULT_WORK,
    as_json: AsJson = False,
) -> None:
    """Say how many runs decide a difference between two backbones, under which protocol, in how many hours.

    Computed for the two-sided t test at the level .05, from what runs of one checkpoint, and pretrainings of one
    method, differ by in the results so far; where there are none of a protocol of full size, from published runs.
    A difference that these validation images could make by themselves needs more images, not more runs.

    Example: densebench plan --track mini --difference 1.0

    Parameters
    ----------
    difference
        In points of the protocol's metric.
    track
        Whose protocols are compared.
    power
        The chance with which a true difference of this size is to be found.
    results
        Folder of result files (default: WORK/results).
    """
    from dataclasses import asdict

    from bench.planning import options
    from bench.protocols import load_protocol
    from bench.tracks import find_track
    from leaderboard.store import ResultStore

    if not 0 < difference <= 100:
        raise BenchError(f"--difference is {difference:g}: give points of per cent, above 0 and at most 100")
    if not 0.05 < power < 1:
        raise BenchError(f"--power is {power:g}: give a number between .05 and 1, usually .8")
    protocols = [load_protocol(name) for name in find_track(track).protocols]
    store = ResultStore(results or work / "results")
    found = options(protocols, store.load()[0], store.shares, difference=difference, power=power)
    if as_json:
        return print_json([asdict(option) | {"hours": option.hours} for option in found])
    _show(found, f"What decides a difference of {difference:g} with power {power:g}")


def _show(found: list[Option], title: str) -> None:
    from bench.planning import FEW, NOTHING, PRETRAINING, cheapest

    columns = ["protocol", "repeated", "sd", "from", "runs of each", "hours", f"least with {FEW}", "least over images"]
    print_table(title, columns, [_row(option) for option in found])
    best = cheapest(found)
    if best is not None:
        only = " (between these two checkpoints, not between their methods)" if best.repeated == NOTHING else ""
        print(f"cheapest: {best.protocol}, {best.runs} of each, {_number(best.hours)} hours of evaluation{only}")
    known = [option for option in found if option.repeated != PRETRAINING]
    few = {option.protocol: option.least_over_images for option in found if option.enough_images is False}
    if few:
        least = ", ".join(f"{name} {_number(value)}" for name, value in few.items())
        print(f"too few validation images for this difference, however many runs: the least is {least}")
    unknown = list(dict.fromkeys(one.protocol for one in known if not one.measured and one.protocol not in few))
    if unknown:
        print(
            f"not measured here: {', '.join(unknown)}; to measure it, submit two checkpoints, with all seeds where "
            "they are fine-tuned, and repeat this command"
        )
    print(
        "runs of each: in brackets for the upper end of the sd's 80 % interval; *: decide for these validation images "
        "only. hours: evaluating both, as long as the results say, without pretraining and without the sweeps of track "
        "fair. least over images: what is smaller holds for these images only, however many runs. pretraining run: "
        "what decides between methods; it is known where methods were pretrained with several seeds."
    )


def _row(option: Option) -> list[str]:
    noise = option.noise
    if noise is not None:
        runs = (
            f"{_runs(option.runs)} ({_runs(option.cautious_runs)})"
            if noise.measured
            else f"at least {_runs(option.runs)}"
        )
        runs += " *" if option.enough_images is False else ""
    elif option.enough_images is False:
        runs = "too few images"
    else:
        runs = "-" if option.runs is None else str(option.runs)
    source = "-" if option.measured else "not known"
    if noise is not None:
        source = noise.source if noise.measured else f"literature: {noise.source}"
    return [
        option.protocol,
        option.repeated,
        _number(None if noise is None else noise.sd),
        source,
        runs,
        _number(option.hours),
        _number(option.least_with_few),
        _number(option.least_over_images),
    ]


def _runs(count: int | None) -> str:
    from bench.power import MOST_RUNS

    return f">{MOST_RUNS}" if count is None else str(count)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
