"""Results that executed another plan than their protocol's are not compared.

A protocol's hash fixes how long it trains. A record says itself what was planned, so that one of a shortened or edited
run could say 3 of 3 where its protocol plans 60: a known protocol shows it. Results of one that is not known are
compared with those of the same plan only (`leaderboard.analysis`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from leaderboard.records import Result


def split_by_plan(results: Iterable[Result], plans: Mapping[str, int]) -> tuple[list[Result], list[tuple[Result, str]]]:
    """Results that may have executed their protocol's plan, in the order given, and the others, each with the reason.

    `plans` gives the iterations of known protocols by their hash. Failed runs are no values and stay.
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
