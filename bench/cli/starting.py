"""Commands for a new user: the demo, and what this machine can run."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from bench.cli.common import DEFAULT_WORK, TOOLS, AsJson, Work, app, print_json, print_table


@app.command(group=TOOLS)
def demo(*, work: Work = Path("demo-work"), processes: int | None = None) -> int:
    """Run the whole job on generated data: pretrain two methods, submit, fine-tune, rank. On a CPU, in minutes.

    Example: densebench demo

    Parameters
    ----------
    processes
        How many fine-tuning runs at a time (default: one per GPU; on a CPU one per core, at most 4).
    """
    from bench.demo import run_demo

    return run_demo(work, processes)


@app.command(group=TOOLS)
def doctor(*, data: Path | None = None, work: Work = DEFAULT_WORK, as_json: AsJson = False) -> int:
    """Say what this machine can run and what is missing: packages, operators, device, memory, disk, data.

    Example: densebench doctor --data data/

    Parameters
    ----------
    data
        Also check this data root.
    """
    from bench.doctor import diagnose

    findings = diagnose(work, data)
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        colors = {"ok": "green", "note": "yellow", "missing": "red"}
        rows: list[list[str | Text]] = [[Text(f.state, style=colors[f.state]), f.what, f.finding] for f in findings]
        print_table("", ["", "what", "finding"], rows)
        for finding in findings:
            if finding.command:
                print(f"\n{finding.what}:\n{finding.command}")
    return int(any(finding.state == "missing" for finding in findings))
