"""Excludes results that executed another plan than their protocol's.

A protocol's hash fixes how long it trains. A record states itself what was planned, so that the record of a shortened
or edited run could say 3 of 3 iterations where its protocol plans 60: for a known protocol this is found out. Results
of an unknown protocol are only compared with results of the same plan (`leaderboard.analysis`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from leaderboard.records import Result


def split_by_plan(results: Iterable[Result], plans: Mapping[str, int]) -> tuple[list[Result], list[tuple[Result, str]]]:
    """Results that may have executed their protocol's plan, in the order given, and the others, each with the reason.

    `plans` gives the iterations of known protocols by their hash. Failed runs have no values and stay.
    """
    fit: list[Result] = []
    others: list[tuple[Result, str]] = []
    for result in results:
        wanted, training = plans.get(result.protocol.sha256), result.training
        if wanted is None or training is None or result.status == "failed" or training.executed_iterations == wanted:
            fit.append(result)
            continue
        others.append(
            (
                result,
                f"executed {training.executed_iterations} iterations, but {result.protocol.id} "
                f"({result.protocol.sha256[:8]}) plans {wanted}: not comparable; run it again",
            )
        )
    return fit, others
