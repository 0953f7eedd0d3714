"""Results that executed another plan than their protocol's are not compared.

A protocol's hash fixes how long it trains. A record says itself what was planned, so that one of a shortened or edited
run could say 3 of 3 where its protocol plans 60; the others of the protocol, or the protocol itself, show it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from leaderboard.records import Result


def split_by_plan(results: Iterable[Result], plans: Mapping[str, int]) -> tuple[list[Result], list[tuple[Result, str]]]:
    """Results that executed their protocol's plan, in the order given, and those that did not, each with the reason.

    `plans` gives the iterations of known protocols by their hash. Of others the plan is that of most finished results;
    of two equally frequent ones it is the longer. Failed runs are no figures and stay.
    """
    listed = list(results)
    planned: dict[str, list[int]] = defaultdict(list)
    for result in listed:
        if (iterations := _executed(result)) is not None:
            planned[result.protocol.sha256].append(iterations)
    expected = {sha256: plans.get(sha256) or _usual(found) for sha256, found in planned.items()}
    fit: list[Result] = []
    others: list[tuple[Result, str]] = []
    for result in listed:
        iterations, wanted = _executed(result), expected.get(result.protocol.sha256)
        if iterations is None or iterations == wanted:
            fit.append(result)
            continue
        whose = "plans" if result.protocol.sha256 in plans else "has in most results"
        others.append(
            (
                result,
                f"executed {iterations} iterations, but {result.protocol.id} ({result.protocol.sha256[:8]}) {whose} "
                f"{wanted}: not comparable; run it again",
            )
        )
    return fit, others


def _executed(result: Result) -> int | None:
    """Of a finished run; its record has proven that this is what it planned."""
    return result.training.executed_iterations if result.status == "finished" and result.training else None


def _usual(iterations: list[int]) -> int:
    counts = Counter(iterations)
    return max(counts, key=lambda value: (counts[value], value))
