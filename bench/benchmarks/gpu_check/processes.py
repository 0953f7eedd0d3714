"""A part in a process of its own: started, relayed, killed at the end of its budget, and what it left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from bench.benchmarks.gpu_check.parts import PACKAGE, Part
from bench.benchmarks.gpu_check.task import CheckFailedError, Options, SkippedError, Task
from leaderboard.base.errors import DenseBenchError

LAST_LINES = 6
"""Lines of the log that tell why a process died."""


def run_part(part: Part, options: Options, budget: float, log: Path, show: Callable[[str], None]) -> dict[str, Any]:
    """Run `part` in a new process and return its state, reason, result, lines, seconds and budget.

    `show` gets each line of the part as it comes. Everything else that the process and its children print goes to
    `log`. At the end, or after `budget` seconds, none of them is left.
    """
    with tempfile.TemporaryDirectory(prefix=f"gpu_check-{part.name}-") as folder, log.open("a") as printed:
        printed.write(f"\n===== {part.name} =====\n")
        printed.flush()
        began, start = time.monotonic(), printed.tell()
        file = Path(folder) / "found.json"
        process = subprocess.Popen(
            [sys.executable, "-m", f"{PACKAGE}.processes", json.dumps(vars(part)), str(file), str(budget)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
            start_new_session=True,
            env={**os.environ, "TMPDIR": folder},  # what a killed part leaves there goes with the folder
        )
        relay = threading.Thread(target=_relay, args=(process.stdout, show))
        relay.start()
        try:
            _send(process.stdin, options.to_json())
            in_time = _ended_within(process, budget)
        finally:
            _kill_group(process.pid)
            process.wait()
            relay.join()
        found: dict[str, Any] = {"result": {}, "lines": []}
        if file.is_file():
            found = json.loads(file.read_text())
        if found.get("state", "running") == "running":
            found |= _cut_short(part, process.returncode, budget, log, start) if in_time else _ended(part, budget)
    return found | {"seconds": round(time.monotonic() - began, 1), "budget": budget}


def _ended(part: Part, budget: float) -> dict[str, Any]:
    return {"state": "ended", "reason": f"not done within its {budget:.0f} s; what it found until then is kept"}


def _cut_short(part: Part, code: int, budget: float, log: Path, start: int) -> dict[str, Any]:
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    with log.open(errors="replace") as printed:
        printed.seek(start)
        last = [line.rstrip() for line in printed if line.strip()][-LAST_LINES:]
    return {"state": "failed", "reason": "\n".join([f"its process died: {name}", *last])}


def _ended_within(process: subprocess.Popen[str], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _send(stream: IO[str] | None, text: str) -> None:
    assert stream is not None
    try:
        stream.write(text)
        stream.close()
    except BrokenPipeError:
        return  # it died at once; its exit code is told


def _relay(stream: IO[str] | None, show: Callable[[str], None]) -> None:
    for line in stream or ():
        show(line.rstrip("\n"))


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing of it is left


def _work() -> int:
    """The part's process: options on standard input, lines on standard output, prints of libraries to the log."""
    part, file, budget = Part(**json.loads(sys.argv[1])), Path(sys.argv[2]), float(sys.argv[3])
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    task = Task(Options.from_json(sys.stdin.read()), file, budget, lambda text: print(text, file=lines))
    try:
        part(task)
    except SkippedError as error:
        task.end("skipped", str(error))
    except CheckFailedError as error:
        task.end("failed", str(error))
    except Exception as error:
        import traceback

        traceback.print_exc()
        told = str(error) if isinstance(error, DenseBenchError) else f"{type(error).__name__}: {error}"
        task.end("failed", "\n".join(told.splitlines()[:LAST_LINES]))
    else:
        task.end("passed")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    # Threads of libraries and loading processes may outlive the work: what counts is on disk.
    code = _work()
    sys.stderr.flush()
    os._exit(code)
