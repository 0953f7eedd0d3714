"""SLURM itself, on this machine alone: twelve runs, two of them interrupted, find what local processes find."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from short_protocols import checkpoint
from short_runs import ITERATIONS, fine_tune, lines, make_runs

from bench.executors.base import LocalExecutor
from bench.executors.slurm import SlurmExecutor, in_queue
from bench.jobs import Outcome, TransferRun
from bench.openmmlab.stored_weights import WEIGHTS
from leaderboard.records import read_result_json

CONF = """
ClusterName=test
SlurmctldHost={host}(localhost)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=10
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=localhost CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A SLURM of one node, this machine, which ends with the test."""
    pytest.importorskip("submitit")
    path = f"{os.environ['PATH']}:/usr/sbin"
    if missing := [name for name in DAEMONS if shutil.which(name, path=path) is None]:
        pytest.skip(f"no SLURM here ({', '.join(missing)}): apt-get install slurmd slurmctld slurm-client munge")
    if os.getuid():
        pytest.skip("only root can start a SLURM of its own")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # a socket's path must be short
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    values = {"host": socket.gethostname().split(".")[0], "folder": folder, "cpus": os.cpu_count()}
    (folder / "slurm.conf").write_text(CONF.format(**values, port=free_port(), node_port=free_port()))
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    places = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge.{name}" for option, name in places.items()]
    try:
        subprocess.run(["munged", "--force", *munge], check=True)
        subprocess.run(["slurmctld"], check=True)
        subprocess.run(["slurmd"], check=True)
        wait_for(lambda: "idle" in subprocess.run(["sinfo"], capture_output=True, text=True).stdout, 60)
        yield
    finally:
        subprocess.run(["scancel", "--user=root"], check=False)
        with contextlib.suppress(AssertionError):  # a job that does not end has no daemon to wait for
            wait_for(lambda: not subprocess.run(["squeue", "--noheader"], capture_output=True).stdout, 60)
        for name in ("slurmd", "slurmctld", "munge"):
            if (file := folder / f"{name}.pid").exists():
                os.kill(int(file.read_text()), signal.SIGTERM)
        time.sleep(2)
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def wait_for(condition: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "SLURM did not come up"
        time.sleep(0.5)


def found(run: TransferRun) -> tuple[dict[str, Any], bytes, bytes]:
    """What the run found, without times and the commit."""
    result = read_result_json((run.folder / "result.json").read_bytes())
    times = dict.fromkeys(("finished_at", "wall_seconds", "seconds", "peak_memory_mib"), True)
    kept = result.model_dump(exclude={**times, "environment": {"code_commit"}})
    return kept, (run.folder / WEIGHTS).read_bytes(), (run.folder / "losses.csv").read_bytes()


@pytest.mark.slow
def test_twelve_runs_and_two_interruptions(
    cluster: None, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the jobs import `short_runs`
    backbone = checkpoint(tmp_path / "work")
    runs = make_runs(tmp_path / "slurm", backbone, tiny_data, 12)
    interruptions = {runs[0]: ["scancel", "--signal=USR2"], runs[1]: ["scontrol", "requeue"]}  # time limit; lost node

    def look() -> set[str]:
        for run in list(interruptions):
            if 0 < lines(run) < ITERATIONS:
                job = (run.folder / "job.json").read_text().split('"')[3]
                # not checked: scancel asks again while the job is being queued again, and then says that it cannot
                subprocess.run([*interruptions.pop(run), job], check=False, timeout=300)
        return in_queue()

    executor = SlurmExecutor(tmp_path / "jobs", gpus=0, threads=1, minutes=30, jobs=look, poll_seconds=0.1)
    outcomes: list[Outcome[TransferRun]] = executor.run_all(runs, finished=lambda outcome: None, execute=fine_tune)
    assert [outcome.failure for outcome in outcomes] == [None] * 12 and not interruptions
    local = make_runs(tmp_path / "local", backbone, tiny_data, 12)
    LocalExecutor(2, threads=1).run_all(local, finished=lambda outcome: None, execute=fine_tune)
    assert [found(run) for run in runs] == [found(run) for run in local]
    for run in runs[:2]:
        assert "continued: " in run.log.read_text(), "it was not interrupted within its training"
