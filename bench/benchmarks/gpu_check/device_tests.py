"""The tests that need a GPU, counted as they end, so that a test that kills the process is known by its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bench
from bench.benchmarks.gpu_check.task import CheckFailedError, SkippedError, Task

ROOT = Path(bench.__file__).parents[1]
"""Root of the checkout; an installed package has no tests beside it."""
MARK = "mark.cuda"
"""Text that a file of tests for a GPU contains."""
ERROR_LINES = 6
"""Lines of a test's error that are kept."""


def tests(task: Task) -> None:
    """Run `pytest --cuda -m cuda`; on a CPU only collect."""
    import pytest

    if not (ROOT / "tests").is_dir():
        raise SkippedError(f"there are no tests in {ROOT}: run the command in a checkout")
    # Only files that have such tests: collecting all takes longer than the tests.
    files = [str(file) for file in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in file.read_text()]
    if not files:
        raise SkippedError("no test is marked `cuda`")
    collect = task.device.type == "cpu"
    options = ["--collect-only"] if collect else ["--cuda"]
    seen = Recorder(task)
    os.chdir(ROOT)
    code = pytest.main(["-p", "no:cacheprovider", "-m", "cuda", *options, *files], plugins=[seen])
    seen.note(exit_code=int(code))
    if collect:
        task.line(f"{seen.collected} CUDA tests; on a CPU they are collected only")
    else:
        task.line(f"{len(seen.passed)} passed, {len(seen.failed)} failed, {len(seen.skipped)} skipped")
    if code != pytest.ExitCode.OK:
        raise CheckFailedError(f"{len(seen.failed)} tests failed, pytest ended with {code!r}")


class Recorder:
    """A plugin of pytest that notes every outcome at once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.collected = 0
        self.passed: list[str] = []
        self.skipped: list[str] = []
        self.failed: dict[str, str] = {}
        """Name of the test (or of a file that cannot be imported) -> the first lines of its error."""
        self.seconds: dict[str, float] = {}

    def pytest_collection_finish(self, session: Any) -> None:
        """Note how many tests there are."""
        self.collected = len(session.items)
        self.note()

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot be imported as a failure."""
        if report.failed:
            self._fail(report)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note the test that runs now; its name stays if the process dies."""
        self.note(running=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note the outcome of a test's set-up, call or tear-down."""
        if report.failed:
            self._fail(report)
        elif report.skipped:
            self.skipped.append(report.nodeid)
        elif report.when == "call":
            self.passed.append(report.nodeid)
        self.seconds[report.nodeid] = round(self.seconds.get(report.nodeid, 0.0) + report.duration, 2)
        self.note(running=None)

    def note(self, **more: Any) -> None:
        """Put the state on disk."""
        slowest = dict(sorted(self.seconds.items(), key=lambda item: -item[1])[:10])
        self._task.note(
            collected=self.collected,
            passed=len(self.passed),
            failed=self.failed,
            skipped=self.skipped,
            slowest_seconds=slowest,
            **more,
        )

    def _fail(self, report: Any) -> None:
        lines = [line for line in report.longreprtext.splitlines() if line.strip()]
        told = [line[1:].strip() for line in lines if line.startswith("E ")] or lines
        self.failed[report.nodeid] = "\n".join(told[:ERROR_LINES])
        self._task.line(f"failed: {report.nodeid}")
        for line in self.failed[report.nodeid].splitlines():
            self._task.line(f"    {line[:200]}")
