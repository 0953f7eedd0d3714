"""Runs are isolated, counted, locked and never orphaned."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.errors import BenchError
from bench.jobs import Outcome, TransferRun, _why, evaluate, run_all
from bench.openmmlab.checkpoints import CHECKPOINT
from leaderboard.records import DatasetReference, Result
from leaderboard.store import ResultStore

RESULT = next(Path(__file__).parents[2].glob("leaderboard/results/random-resnet18-seed0--frozen_voc_seg_knn--*.json"))
DATASET = DatasetReference(name="voc2012_seg", fingerprint="0" * 64, train_images=1, val_images=1, classes=None)


def make_run(folder: Path, seed: int = 0) -> TransferRun:
    return TransferRun(
        "protocol", folder, folder, DATASET, seed, folder / f"seed{seed}", folder / "results", f"{seed:016x}"
    )


def write_marker(run: TransferRun, threads: int) -> None:
    print(f"seed {run.seed} with {threads} threads")
    (run.folder / "done").write_text(str(os.getpid()))


def fail_on_odd_seeds(run: TransferRun, threads: int) -> None:
    if run.seed == 1:
        raise BenchError("the data are gone: bring them back")
    if run.seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write_marker(run, threads)


def test_every_run_has_its_own_process_and_log(tmp_path: Path) -> None:
    ended: list[Outcome] = []
    runs = [make_run(tmp_path, seed) for seed in range(3)]
    left = runs[0].folder / ".weights.safetensors.12.34.tmp"  # by a run that was killed
    left.parent.mkdir()
    left.touch()
    outcomes = run_all(runs, processes=2, finished=ended.append, execute=write_marker)
    assert [o.failure for o in outcomes] == [None] * 3 and len(ended) == 3
    assert {o.run.seed for o in ended} == {0, 1, 2}
    assert len({(run.folder / "done").read_text() for run in runs}) == 3
    assert "seed 2 with" in runs[2].log.read_text()
    assert not left.exists()


def test_threads_and_device_can_be_chosen(tmp_path: Path) -> None:
    (run,) = runs = [make_run(tmp_path)]
    (outcome,) = run_all(runs, threads=3, device="cpu", finished=lambda outcome: None, execute=write_marker)
    assert outcome.failure is None and "seed 0 with 3 threads" in run.log.read_text()
    with pytest.raises(BenchError, match="device cuda does not exist: PyTorch finds no GPU here"):
        run_all(runs, device="cuda", finished=lambda outcome: None, execute=write_marker)


def test_a_failing_run_stops_no_other(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, seed) for seed in range(5)]
    outcomes = run_all(runs, processes=2, finished=lambda outcome: None, execute=fail_on_odd_seeds)
    failures = {o.run.seed: o.failure for o in outcomes if o.failure}
    assert set(failures) == {1, 3}
    assert "the data are gone: bring them back" in failures[1] and str(runs[1].log) in failures[1]
    assert "exit code -9" in failures[3]
    assert all((run.folder / "done").is_file() for run in runs if run.seed % 2 == 0)


def test_a_run_is_never_executed_twice_at_once(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.folder.mkdir()
    with (run.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (outcome,) = run_all([run], processes=1, finished=lambda outcome: None, execute=write_marker)
    assert outcome.failure and "being run by another command" in outcome.failure
    assert not (run.folder / "done").exists()


def fail_and_then_be_killed(run: TransferRun, threads: int) -> None:
    if not (run.folder / "failed").exists():
        (run.folder / "failed").touch()
        raise BenchError("the data are gone: bring them back")
    os.kill(os.getpid(), signal.SIGKILL)


def test_why_a_run_failed_is_not_what_an_earlier_attempt_said(tmp_path: Path) -> None:
    failures = [
        run_all([make_run(tmp_path)], processes=1, finished=lambda outcome: None, execute=fail_and_then_be_killed)[0]
        for _ in range(2)
    ]
    assert "the data are gone" in str(failures[0].failure)
    assert str(failures[1].failure).startswith("its process ended with exit code -9")


def test_a_run_whose_result_is_there_meanwhile_is_not_executed_again(tmp_path: Path) -> None:
    """Its protocol cannot even be read here."""
    result = Result.model_validate_json(RESULT.read_text(encoding="utf-8")).model_copy(update={"outputs": {}})
    ResultStore(tmp_path / "results").add(result)
    run = replace(make_run(tmp_path), key=result.key)
    run.folder.mkdir()
    (run.folder / CHECKPOINT).touch()
    evaluate(run, 1)
    assert not (run.folder / CHECKPOINT).exists()
    with pytest.raises(BenchError):
        evaluate(replace(run, key="0" * 16), 1)


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.folder.write_text("in the way")
    (outcome,) = run_all([run], processes=1, finished=lambda outcome: None, execute=write_marker)
    assert (
        outcome.failure
        == f"its log {run.log} cannot be written: make the folder writable or free space, and repeat the command"
    )


def fill_the_disk(run: TransferRun, threads: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "weights.safetensors")


def test_a_full_disk_is_said_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)
    (outcome,) = run_all([run], processes=1, finished=lambda outcome: None, execute=fill_the_disk)
    assert outcome.failure and outcome.failure.startswith("the disk is full (weights.safetensors): free space")
    run.log.write_text("x" * 200_000)  # so full that nothing could be said
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    assert _why(run, 1, 0).startswith("the disk is full: free space")


def test_killing_the_command_leaves_no_orphan(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import os, time
        from pathlib import Path
        from bench.jobs import TransferRun, run_all
        from leaderboard.records import DatasetReference

        def sleep(run, threads):
            (run.folder / "started").write_text(str(os.getpid()))
            time.sleep(600)

        if __name__ == "__main__":
            data = DatasetReference(name="d", fingerprint="0" * 64, train_images=1, val_images=1, classes=None)
            folder = Path({str(tmp_path)!r})
            run_all([TransferRun("p", folder, folder, data, 0, folder / "run", folder, "0" * 16)], processes=1,
                    finished=print, execute=sleep)
        """)
    )
    command = subprocess.Popen([sys.executable, str(program)])
    started = tmp_path / "run" / "started"
    try:
        wait_for(lambda: command.poll() is not None or (started.is_file() and started.read_text() != ""))
    finally:
        command.kill()
        command.wait()
    child = int(started.read_text())
    wait_for(lambda: not alive(child))


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_ctrl_c_while_the_server_imports_is_for_the_command(tmp_path: Path) -> None:
    """The server goes on quietly, and the runs that it forks have the handler that they had."""
    program = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupting(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "bench.probes.runner":
            os.kill(os.getpid(), signal.SIGINT)
        return None

import bench.fine_tuning
bench.fine_tuning.missing = lambda: ["mmengine"]
sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.default_int_handler)
import bench.openmmlab.preload
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
print("imported", "bench.probes.runner" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("imported True\n", "", 0)


def test_processes_are_at_least_one() -> None:
    with pytest.raises(BenchError, match="--processes is -1: give 1 or more"):
        run_all([], processes=-1, finished=lambda outcome: None, execute=lambda run, threads: None)
