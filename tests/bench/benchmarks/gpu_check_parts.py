"""Parts for the tests of `gpu_check`: each ends in another way."""

import os
import subprocess
import sys
import time
from typing import Any

from bench.benchmarks.gpu_check.task import CheckFailedError, SkippedError


def passes(task: Any) -> None:
    print("printed by a library")
    task.note(value=1)


def dies(task: Any) -> None:
    task.note(before=1)
    print("last words", file=sys.stderr, flush=True)
    os.abort()


def raises(task: Any) -> None:
    raise ZeroDivisionError("by what?")


def fails(task: Any) -> None:
    raise CheckFailedError("unequal")


def skips(task: Any) -> None:
    raise SkippedError("nothing to do")


def hangs(task: Any) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    task.note(child=child.pid)
    task.line("begun")
    time.sleep(600)
