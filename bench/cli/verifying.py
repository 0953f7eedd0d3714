"""The command that reproduces a result."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bench.cli.common import EVALUATE, AsJson, app, print_json
from leaderboard.base.terminal import Console


@app.command(group=EVALUATE)
def verify(
    result: Path,
    *,
    data: Path,
    work: Annotated[Path | None, Parameter(help="Folder in which the run was made.")] = None,
    protocol: str | None = None,
    record: Path | None = None,
    as_json: AsJson = False,
) -> int:
    """Evaluate the stored weights of a result again (a probe is run again) and say whether all is exactly the same.

    Exit code 0 if every metric, its standard error and the per-image outputs are, else 1. On a CPU they are with the
    same versions; on a GPU sums have no fixed order.

    Example: densebench verify densebench-work/results/moco-v2--mini_voc_seg_fcn--seed0--12ab34cd56ef7890.json --data .

    Parameters
    ----------
    result
        The result's file; by default its run and checkpoint are looked for beside the folder in which it lies.
    data
        Data root on which it was measured.
    protocol
        The file of a protocol of your own.
    record
        Note in this folder of accepted results that the run was repeated, if all is reproduced: tables then show it.
    """
    from bench.verifying import verify as reproduce
    from leaderboard.checked import write_check

    found = reproduce(result, data=data, work=work, protocol=protocol)
    noted = None
    if record is not None and found.reproduced:
        noted = write_check(record, found.result, "re-run", found.result.outputs, datetime.now(UTC))
    if as_json:
        print_json(
            {
                "reproduced": found.reproduced,
                "metrics": found.metrics,
                "differences": found.differences,
                "circumstances": found.circumstances,
                "recorded": None if noted is None else str(noted),
            }
        )
        return int(not found.reproduced)
    console = Console(soft_wrap=True, highlight=False)
    head = f"{found.result.card.name}  {found.result.protocol.id}  seed {found.result.seed}"
    console.print(f"{head}: {found.how}", markup=False)
    if found.reproduced:
        console.print(f"reproduced: all {len(found.metrics)} metrics are exactly the result's", markup=False)
        if noted is not None:
            console.print(f"written: {noted}", markup=False)
        return 0
    for line in found.differences:
        console.print(f"differs: {line}", markup=False)
    for line in found.circumstances:
        console.print(f"note: {line}", markup=False)
    return 1
