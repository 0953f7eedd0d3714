"""A demo that is stopped tells its commands, waits for them, and says how to go on."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import demo
from bench.errors import BenchError
from leaderboard.base.errors import Interrupted

SLEEPS = "import sys, time; print('ready', flush=True); time.sleep(600)"


def test_verbs_are_told_and_waited_for() -> None:
    running = [subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        assert process.stdout and process.stdout.readline() == "ready\n"
    demo.stop(running)
    assert [process.poll() is None for process in running] == [False, False]


@pytest.mark.parametrize(("error", "kind"), [(KeyboardInterrupt(), Interrupted), (BenchError("stopped"), BenchError)])
def test_it_says_how_to_go_on(
    error: BaseException, kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def together(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(demo, "_together", together)
    with pytest.raises(kind, match=f"`densebench demo --work {tmp_path / 'w'}`"):
        demo.run_demo(tmp_path / "w", 1)
