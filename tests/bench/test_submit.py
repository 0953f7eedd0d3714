"""Submitting: every run once, nothing finished lost, inputs checked before the first run."""

import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest
from fake_fine_tuning import fails_on_detection, instant

from bench.errors import BenchError
from bench.submit import plan_submission, submit
from bench.tracks import find_track
from leaderboard.store import ResultStore

MINI = find_track("mini")


def plan(data_root: Path, work: Path, **changes):
    return plan_submission("random:resnet18", **({"name": "random", "data": data_root, "work": work} | changes))


def test_every_protocol_with_every_seed(tiny_data: Path, tmp_path: Path) -> None:
    submission = submit(plan(tiny_data, tmp_path), processes=2, execute=instant)
    assert not submission.failures
    done = {(result.protocol.id, result.seed) for result in ResultStore(tmp_path / "results")}
    assert done == {(protocol, seed) for protocol in MINI.protocols for seed in MINI.seeds}
    assert {result.key for result in submission.results} == ResultStore(tmp_path / "results").keys()


def test_repeating_the_command_repeats_no_run(tiny_data: Path, tmp_path: Path) -> None:
    submit(plan(tiny_data, tmp_path, seeds=1), processes=2, execute=instant)
    again = plan(tiny_data, tmp_path)
    assert len(again.done) == len(MINI.protocols)
    submit(again, processes=2, execute=instant)
    assert set(executions(tmp_path).values()) == {1}
    assert len(executions(tmp_path)) == len(MINI.protocols) * len(MINI.seeds)
    assert not plan(tiny_data, tmp_path).todo


def test_failed_runs_are_retried_and_the_others_kept(tiny_data: Path, tmp_path: Path) -> None:
    first = submit(plan(tiny_data, tmp_path, seeds=1), processes=2, execute=fails_on_detection)
    assert {outcome.run.protocol for outcome in first.failures} == {p for p in MINI.protocols if "seg" not in p}
    assert all("out of luck" in (outcome.failure or "") for outcome in first.failures)
    assert not submit(plan(tiny_data, tmp_path, seeds=1), processes=2, execute=instant).failures


def test_changing_an_input_starts_anew(tiny_data: Path, tmp_path: Path) -> None:
    one = plan(tiny_data, tmp_path, seeds=1)
    other = plan_submission("random:resnet18:1", name="other", data=tiny_data, work=tmp_path, seeds=1)
    assert not {run.key for run in one.todo} & {run.key for run in other.todo}
    assert not {run.folder for run in one.todo} & {run.folder for run in other.todo}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"track": "mni"}, "mini"),
        ({"protocols": ["mini_voc"]}, "there is no protocol 'mini_voc'"),
        ({"seeds": 4}, "--seeds takes 1 to 3"),
        ({"data": Path("nowhere")}, "nowhere"),
    ],
)
def test_inputs_are_checked_before_the_first_run(changes, words: str, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=words):
        plan(tiny_data, tmp_path, **changes)


@pytest.mark.slow
def test_killing_and_repeating_loses_and_repeats_nothing(tiny_data: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from bench.submit import plan_submission, submit
        from fake_fine_tuning import slow

        if __name__ == "__main__":
            plan = plan_submission("random:resnet18", name="random", data=Path({str(tiny_data)!r}),
                                   work=Path({str(tmp_path)!r}))
            submit(plan, processes=2, execute=slow)
        """)
    )
    store, total = ResultStore(tmp_path / "results"), len(MINI.protocols) * len(MINI.seeds)
    settled: dict[str, int] = {}  # how often a finished run had been executed when it was first seen finished
    for kills, at_least in enumerate((3, 7), 1):
        command = subprocess.Popen([sys.executable, str(program)])
        deadline = time.monotonic() + 180
        while len(store.keys()) < at_least:
            assert command.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        command.kill()
        command.wait()
        time.sleep(1.5)  # a run that outlived the command would finish within this time
        finished = {result.key: result for result in store}
        assert len(finished) < total
        counts = executions(tmp_path)
        assert all(counts[key] <= kills for key in finished)
        settled = {key: counts[key] for key in finished} | settled
    subprocess.run([sys.executable, str(program)], check=True)
    assert len(store.keys()) == total
    assert all({result.key: result for result in store}[key] == result for key, result in finished.items())
    counts = executions(tmp_path)
    assert all(counts[key] == times for key, times in settled.items())
    assert sum(counts.values()) <= total + 2 * 2  # only what was in flight when the command was killed


def executions(work: Path) -> Counter[str]:
    return Counter((work / "executions").read_text().split())
