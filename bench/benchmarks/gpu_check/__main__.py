"""The command: runs the parts one after the other and writes what they found after each."""

from __future__ import annotations

import json
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, run

from bench.benchmarks.gpu_check.parts import PARTS, Part
from bench.benchmarks.gpu_check.processes import run_part
from bench.benchmarks.gpu_check.task import Options
from bench.benchmarks.rounds import start
from bench.errors import BenchError
from leaderboard.base.files import make_folder, write_atomic

TINY_PATIENCE = 5.0
"""Factor by which budgets, which are those of a GPU, grow where every part only has to run, on whatever machine."""
REPORT, LOG = "gpu_check.json", "gpu_check.log"


def check(parts: tuple[Part, ...], options: Options, log: Path) -> bool:
    """Run `parts`, write the report after each, and tell whether none failed. Other parts of the report stay."""
    report: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": json.loads(options.to_json()),
        "parts": json.loads(options.report.read_text())["parts"] if options.report.is_file() else {},
        "finished": False,
    }
    patience = TINY_PATIENCE if options.tiny else 1.0
    began, total = time.monotonic(), patience * sum(part.budget for part in parts)
    for part in parts:
        rest = total - (time.monotonic() - began) if part.takes_rest else 0.0
        budget = max(patience * part.budget, rest)
        _show(f"[{part.name}] {part.what} (at most {budget:.0f} s)")
        found = run_part(part, options, budget, log, lambda text: _show(f"  {text}"))
        found["good"] = found["state"] in ("passed", "skipped") or (part.takes_rest and found["state"] == "ended")
        report["parts"][part.name] = found
        _write(options.report, report)
        _show(f"[{part.name}] {found['state']} after {found['seconds']:.0f} s")
        for text in (found["reason"] or "").splitlines():
            _show(f"  {text}")
    report |= {"finished": True, "seconds": round(time.monotonic() - began, 1)}
    _write(options.report, report)
    done = {part.name: report["parts"][part.name] for part in parts}
    states = ", ".join(f"{name} {found['state']}" for name, found in done.items())
    _show(f"{report['seconds']:.0f} s: {states}\nreport: {options.report}, log: {log}")
    return all(found["good"] for found in done.values())


def main(
    *,
    data: Path,
    out: Path,
    part: Annotated[list[str] | None, Parameter(negative="")] = None,
    device: str | None = None,
    workers: int | None = None,
    transfer_data: Path | None = None,
    tiny: bool = False,
) -> None:
    """Show everything that only a GPU can show, in less than eight minutes. Exit code 1 if a part failed.

    Example: python -m bench.benchmarks.gpu_check --data images/ --out gpu/

    Parameters
    ----------
    data
        Folder (or .txt list) of images to pretrain on.
    out
        Folder for gpu_check.json and gpu_check.log.
    part
        Run this part alone; may be repeated. Estimates read the parts before from the report in the folder. The part
        `protocols` (two protocols of track paper at full size, three minutes) runs only where it is named.
    device
        cuda or cpu (default: cuda where there is one).
    workers
        Loading processes (default: as many as training starts).
    transfer_data
        Data root with VOCdevkit/, coco/ and cityscapes/ for the transfer protocols, with VOC2007 for those of track
        paper (default: generated data).
    tiny
        Only show that every part runs, in seconds, also on a CPU.
    """
    known = {known.name: known for known in PARTS}
    unknown = [name for name in part or () if name not in known]
    if unknown:
        raise BenchError(f"there is no part {unknown[0]!r}: choose of {', '.join(known)}")
    make_folder(out)
    # Ended from outside, the command takes its part with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options = Options(
        data=data.resolve(),
        device=device,
        tiny=tiny,
        workers=workers,
        transfer_data=None if transfer_data is None else transfer_data.resolve(),
        report=out.resolve() / REPORT,
    )
    chosen = tuple(one for one in PARTS if (one.name in part if part else not one.asked))
    good = check(chosen, options, out.resolve() / LOG)
    sys.exit(0 if good else 1)


def _write(file: Path, report: dict[str, Any]) -> None:
    write_atomic(file, json.dumps(report, indent=1) + "\n")


def _show(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    start(lambda: run(main))
