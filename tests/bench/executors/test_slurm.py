"""Jobs of SLURM: queued once, followed, continued after their time limit, with the results of local processes.

SLURM's commands are scripts that note what they were asked; each job is executed in this process by submitit's own
entry point. `test_real_slurm.py` does the like with SLURM itself.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

submitit = pytest.importorskip("submitit", reason="`make install` installs submitit")

from bench import executors  # noqa: E402
from bench.cli import run as densebench  # noqa: E402
from bench.errors import BenchError, Queued  # noqa: E402
from bench.executors.base import LocalExecutor  # noqa: E402
from bench.executors.command import CommandRun, arguments_of, execute_command, pretrain_words  # noqa: E402
from bench.executors.slurm import SlurmExecutor, minutes_of  # noqa: E402
from bench.executors.task import Task  # noqa: E402
from bench.jobs import Outcome  # noqa: E402
from leaderboard.base.errors import Interrupted  # noqa: E402

SBATCH = 'echo "sbatch" >> {0}/asked; cp "$1" {0}/script; [ -e {0}/refuses ] && '
SBATCH += (
    '{{ echo "sbatch: error: invalid partition" >&2; exit 1; }}; n=$(ls {0}/numbers | wc -l); touch {0}/numbers/$n;'
)
SBATCH += ' echo "Submitted batch job $((n + 7))"'
SCRIPTS = {"sbatch": SBATCH, "srun": "true", "scontrol": 'echo "scontrol $*" >> {0}/asked; echo JobState=TIMEOUT'}


@dataclass
class FakeSlurm:
    """A queue whose jobs are executed, one each time that it is looked at."""

    folder: Path
    patch: pytest.MonkeyPatch
    queue: list[str] = field(default_factory=list)

    def executor(self, **options: object) -> SlurmExecutor:
        return SlurmExecutor(self.folder / "slurm", gpus=0, threads=1, jobs=self.look, poll_seconds=0, **options)

    def look(self) -> set[str]:
        """The queue, whose first job is then executed."""
        there = set(self.queue)
        if self.queue:
            self.execute(self.queue.pop(0))
        return there

    def execute(self, job: str) -> None:
        from submitit.core.submission import process_job

        array, _, index = job.partition("_")
        given = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "99", "SLURM_PROCID": "0"}
        given |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": index} if index else {"SLURM_JOB_ID": array}
        with self.patch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2)}
            try:
                process_job(self.folder / "slurm")
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    @property
    def asked(self) -> str:
        return (self.folder / "asked").read_text()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "numbers").mkdir()
    for name, script in SCRIPTS.items():
        file = tmp_path / "bin" / name
        file.write_text(f"#!/bin/sh\n{script.format(tmp_path)}\n")
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    yield FakeSlurm(tmp_path, monkeypatch)


def make_runs(folder: Path, count: int) -> list[CommandRun]:
    return [CommandRun(f"run{n}", folder / f"run{n}", (str(n),)) for n in range(count)]


def square(run: CommandRun, threads: int) -> None:
    if run.words == ("2",):
        raise BenchError("two is not possible: take another")
    (run.folder / "found").write_text(str(int(run.words[0]) ** 2))


def count_to_two_steps(run: CommandRun, threads: int) -> None:
    """Ends after its second step; told to stop, it saves the first and goes."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    (run.folder / "began").touch()
    if not (run.folder / "saved").exists():
        while not told:
            time.sleep(0.01)
        (run.folder / "saved").touch()
        raise Interrupted("saved", signal.SIGTERM)
    (run.folder / "found").touch()


def never_ends(run: CommandRun, threads: int) -> None:
    (run.folder / "began").touch()
    time.sleep(60)


def queue_after(executor: SlurmExecutor, slurm: FakeSlurm, runs: list[CommandRun], jobs: list[str]) -> None:
    """Queue `runs`, which become `jobs`."""
    slurm.queue = []
    with pytest.raises(Queued, match="in the queue as job"):
        executor.run_all(runs, finished=lambda outcome: None, execute=square)
    slurm.queue = jobs


def in_this_process(runs: list[CommandRun], *, execute: object, **options: object) -> list[Outcome[CommandRun]]:
    """Stands in for `run_all` where no process is needed."""
    outcomes = []
    for run in runs:
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            execute(run, options["threads"])  # type: ignore[operator]
            outcomes.append(Outcome(run, 1.0, None))
        except BenchError as error:
            outcomes.append(Outcome(run, 1.0, str(error)))
    return outcomes


def test_runs_are_one_array_and_find_what_local_processes_find(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.patch.setattr("bench.executors.task.run_all", in_this_process)
    slurm.patch.setattr("bench.executors.task._start_server", lambda: None)
    slurm.patch.setattr("bench.executors.base.run_all", in_this_process)
    runs, ended = make_runs(tmp_path, 4), list[Outcome[CommandRun]]()
    queue_after(slurm.executor(wait=False, at_most=2), slurm, runs, [f"7_{n}" for n in range(4)])
    script = (tmp_path / "script").read_text()
    for option in ("array=0-3%2", "time=1440", "requeue", "signal=USR2@120", "cpus-per-task=1", "job-name=densebench"):
        assert f"#SBATCH --{option}\n" in script
    outcomes = slurm.executor().run_all(runs, finished=ended.append, execute=square)
    assert slurm.asked.count("sbatch") == 1, "what is queued was queued again"
    assert outcomes == ended and {o.run.key: o.failure is None for o in outcomes} == {
        "run0": True, "run1": True, "run2": False, "run3": True,
    }  # fmt: skip
    (failed,) = [o.failure for o in outcomes if o.failure]
    assert failed == "two is not possible: take another"
    found = [(run.folder / "found").read_bytes() for run in runs if run.key != "run2"]
    local = make_runs(tmp_path / "local", 4)
    LocalExecutor(2, threads=1).run_all(local, finished=lambda outcome: None, execute=square)
    assert found == [(run.folder / "found").read_bytes() for run in local if run.key != "run2"]


def test_only_what_is_not_queued_is_queued(slurm: FakeSlurm, tmp_path: Path) -> None:
    runs, executor = make_runs(tmp_path, 2), slurm.executor(wait=False)
    queue_after(executor, slurm, runs[:1], [])
    with pytest.raises(Queued, match=r"2 runs are in the queue as job 7, 8;"):
        SlurmExecutor(
            tmp_path / "slurm", gpus=0, wait=False, jobs=lambda: {"7"},
        ).run_all(runs, finished=lambda outcome: None, execute=square)  # fmt: skip
    assert slurm.asked.count("sbatch") == 2
    assert "--array" not in (tmp_path / "script").read_text()


def test_a_run_goes_on_after_its_time_limit(slurm: FakeSlurm, tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, 1)
    with pytest.raises(Queued):
        slurm.executor(wait=False).run_all([run], finished=lambda outcome: None, execute=count_to_two_steps)

    def limit() -> None:
        while not (run.folder / "began").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR2)

    threading.Thread(target=limit, daemon=True).start()
    with pytest.raises(SystemExit):
        slurm.execute("7")
    assert "scontrol requeue 7" in slurm.asked and (run.folder / "saved").exists()
    slurm.execute("7")
    assert (run.folder / "found").exists()


def test_a_run_that_can_save_nothing_is_not_queued_for_ever(slurm: FakeSlurm, tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, 1)
    before = signal.signal(signal.SIGUSR2, lambda number, frame: first.checkpoint())
    first = Task(run, never_ends, threads=1, gpus=0, unsaved=2)

    def limit() -> None:
        while not (run.folder / "began").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR2)

    threading.Thread(target=limit, daemon=True).start()
    try:
        with pytest.raises(BenchError, match="reached 3 times before anything could be saved: raise --time"):
            first()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert first.checkpoint().function.unsaved == 0  # nothing ran, so nothing was lost


def test_a_job_that_slurm_ends_is_a_failure(slurm: FakeSlurm, tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, 1)
    (outcome,) = slurm.executor().run_all([run], finished=lambda outcome: None, execute=square)
    assert outcome.failure == f"SLURM ended its job 7: TIMEOUT (log: {run.log})"
    (tmp_path / "refuses").touch()
    with pytest.raises(BenchError, match="SLURM does not accept the jobs: sbatch: error: invalid partition"):
        slurm.executor().run_all([run], finished=lambda outcome: None, execute=square)
    (run.folder / "job.json").write_text("{")
    with pytest.raises(BenchError, match="is damaged: remove it"):
        slurm.executor().run_all([run], finished=lambda outcome: None, execute=square)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="needs SLURM's commands"):
        SlurmExecutor(tmp_path)
    monkeypatch.setattr(executors.slurm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match=r"pip install 'densebench\[slurm\]'"):
        SlurmExecutor(tmp_path)


@pytest.mark.parametrize("limit", ["", "0", "1:2:3:4", "a day", "1-", "0:00"])
def test_no_time_limit(limit: str) -> None:
    with pytest.raises(BenchError, match="--time"):
        minutes_of(limit)


def test_a_pretraining_is_its_own_command_line() -> None:
    from bench.cli.pretraining import pretrain

    given = {"recipe": "moco-v2-mini", "data": Path("images"), "settings": ["epochs=1", "optimizer.lr=0.1"]}
    words = arguments_of(pretrain, given | {"compile_backbone": True, "workers": "auto", "resume": True, "seed": 3})
    assert words[:3] == ["moco-v2-mini", "--data", "images"]
    assert " ".join(words[3:]) == "--seed 3 --resume --set epochs=1 --set optimizer.lr=0.1 --compile"
    assert pretrain_words(words, 1)[:3] == ("-m", "densebench", "pretrain")
    assert pretrain_words(words, 4)[1:6] == ("torch.distributed.run", "--standalone", "--nproc-per-node", "4", "-m")


def test_a_pretraining_is_queued(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.executors.slurm._ask", lambda *command: "")
    words = ["pretrain", "moco-v2-mini", "--data", "images", "--executor", "slurm", "--no-wait", "--time", "8:00:00"]
    assert densebench([*words, "--device", "cpu"]) == 0
    assert "1 run is in the queue as job 7; repeat the command" in capsys.readouterr().out
    assert "#SBATCH --time=480\n" in (tmp_path / "script").read_text()
    (pickle,) = (tmp_path / "densebench-work" / "slurm").glob("*_submitted.pkl")
    task = submitit.core.utils.DelayedSubmission.load(pickle).function
    line = "-m densebench pretrain moco-v2-mini --data images --out densebench-work/pretraining/moco-v2-mini-seed0"
    assert " ".join(task.run.words) == f"{line} --resume --device cpu" and task.execute is execute_command
    assert densebench(["pretrain", "moco-v2-mini", "--data", "images", "--partition", "gpu"]) == 1
    assert "--partition is for --executor slurm" in capsys.readouterr().err


def test_options_of_the_user_take_the_place_of_ours(slurm: FakeSlurm) -> None:
    for given, kept in (("gpus-per-node=a100:1", "a100:1"), ("--gres=gpu:a100:1", None), ("mem=64G", 2)):
        executor = replace(slurm.executor(options=(given, "exclusive")), gpus=2)
        parameters = executor._parameters(8, 3)
        further = parameters.pop("additional_parameters")
        written = {key: value for key, value in {**parameters, **further}.items() if value is not None}
        assert written.get("gpus_per_node") == kept and further["exclusive"] is True
        assert not any("-" in key for key in further)
    refused = {
        "cpus-per-task=4": "--sbatch cpus-per-task is set by DenseBench: give --threads",
        "--cpus_per_task=4": "--sbatch cpus_per_task is set by DenseBench: give --threads",
        "job_name=mine": "--sbatch job_name is set by DenseBench: its jobs are found by it",
        "-J=mine": "--sbatch -J=mine is a short option: give its long name",
    }
    for option, message in refused.items():
        with pytest.raises(BenchError, match=message):
            slurm.executor(options=(option,))._parameters(8, 3)
