"""GPU-hours of one checkpoint over the whole of the tracks at full size, from what the protocols state."""

from __future__ import annotations

import re
from typing import Final

from bench.protocols import Protocol, builtin_ids, load_protocol
from bench.tracks import FAIR, PAPER

HEADINGS: Final = (
    "Protocol", "One run", "Seeds", "paper: all seeds", "fair: runs of the sweep", "fair: sweep", "fair: all"
)  # fmt: skip
NOTE: Final = (
    "GPU-hours of training, computed from the operations of a ResNet-50 on a GPU that sustains 40 TFLOP/s, not "
    "measured; evaluation comes on top. Standings: the protocols that rank, which `submit --track` runs. A row without "
    "a sweep has no protocol in track fair."
)


def cost(protocol: Protocol) -> tuple[str, str]:
    """GPU-hours and GiB as the docstring of a protocol of track paper states them."""
    text = protocol.docstring.partition("\nCost:")[2]
    hours, memory = re.search(r"([\d.]+)\s+GPU-hours", text), re.search(r"([\d.]+)\s+GiB", text)
    return (hours[1] if hours else "not known", memory[1] if memory else "not known")


def hours_rows() -> list[list[str]]:
    """A row for each protocol of track paper under `HEADINGS`, and the sums of the standings and of all."""
    rows, sums = list[list[str]](), {"Standings": [0.0] * 4, "All": [0.0] * 4}
    for protocol_id in (*PAPER.protocols, *PAPER.further):
        hours = float(cost(load_protocol(protocol_id))[0])
        runs, sweep = _sweep(f"fair_{protocol_id.removeprefix('paper_')}")
        paper, seeds = hours * len(PAPER.seeds), hours * len(FAIR.seeds)
        parts = [hours, paper, hours * sweep, seeds + hours * sweep if runs else 0.0]
        rows.append([protocol_id, _number(hours), str(len(PAPER.seeds)), _number(paper), str(runs or "")])
        rows[-1] += [_number(part) if runs else "" for part in parts[2:]]
        for name in ("All", *(["Standings"] if protocol_id in PAPER.protocols else [])):
            sums[name] = [total + part for total, part in zip(sums[name], parts, strict=True)]
    for name, (one, paper, of_sweeps, fair) in sums.items():
        rows.append([name, _number(one), str(len(PAPER.seeds)), _number(paper), "", _number(of_sweeps), _number(fair)])
    return rows


def _sweep(fair_id: str) -> tuple[int, float]:
    """Number of runs of a protocol's sweep, and how many whole runs they are; none without such a protocol."""
    sweep = load_protocol(fair_id).sweep if fair_id in builtin_ids() else None
    if sweep is None:
        return 0, 0.0
    iterations = load_protocol(fair_id).config["protocol"]["plan"]["iterations"]
    return len(sweep.grid), len(sweep.grid) * sweep.iterations / iterations


def _number(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"
