"""Submitting: every run once, nothing finished lost, inputs checked before the first run."""

import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from fake_fine_tuning import fails_on_detection, instant
from torchvision.models import resnet18

from bench.checkpoints import import_checkpoint, inspect_checkpoint
from bench.cli.tables import export, report
from bench.errors import BenchError
from bench.report import describe, print_submission
from bench.submit import Submission, SubmissionPlan, plan_submission, submit
from bench.tracks import find_track
from leaderboard.base.errors import DenseBenchError, FileError, Interrupted
from leaderboard.store import ResultStore
from pretrain.exported import read_card

MINI = find_track("mini")


def plan(data_root: Path, work: Path, **changes):
    return plan_submission("random:resnet18", **({"name": "random", "data": data_root, "work": work} | changes))


def test_every_protocol_with_every_seed(tiny_data: Path, tmp_path: Path) -> None:
    submission = submit(plan(tiny_data, tmp_path), processes=2, execute=instant)
    assert not submission.failures
    done = {(result.protocol.id, result.seed) for result in ResultStore(tmp_path / "results")}
    assert done == {(protocol, seed) for protocol in MINI.protocols for seed in MINI.seeds}
    assert {result.key for result in submission.results} == ResultStore(tmp_path / "results").keys()


def test_random_initialisation_is_another_network_with_each_seed(tiny_data: Path, tmp_path: Path) -> None:
    planned = plan(tiny_data, tmp_path)
    cards = {run.seed: read_card(run.checkpoint) for run in planned.todo}
    assert [card.name for card in cards.values()] == ["random", "random-seed1", "random-seed2"]
    assert [card.pretraining.seed for card in cards.values()] == list(cards) == list(MINI.seeds)
    assert len({card.sha256 for card in cards.values()}) == 3
    assert planned.card == cards[0]
    assert plan(tiny_data, tmp_path, seeds=1).todo == planned.todo[: len(MINI.protocols)]
    one = plan_submission("random:resnet18:2", name="random-seed2", data=tiny_data, work=tmp_path)
    assert {read_card(run.checkpoint) for run in one.todo} == {cards[2]}
    # of a track with one seed the same networks
    probes = plan(tiny_data, tmp_path, track="frozen", protocols=["frozen_voc_seg_linear"]).todo
    assert [(run.seed, read_card(run.checkpoint)) for run in probes] == [(0, card) for card in cards.values()]


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
        ({"seeds": 0, "track": "frozen"}, "track frozen has one seed: leave --seeds out"),
        ({"name": "a b/c", "data": Path("nowhere")}, "name 'a b/c'; give --name 1 to 80 letters, digits and . _"),
        ({"data": Path("nowhere")}, "there is no folder nowhere: expected VOCdevkit"),
    ],
)
def test_inputs_are_checked_before_the_first_run(changes, words: str, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DenseBenchError, match=words):
        plan(tiny_data, tmp_path, **changes)


def test_the_data_are_checked_before_anything_is_imported(tiny_data: Path, tmp_path: Path) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    (data / "VOCdevkit").symlink_to(tiny_data / "VOCdevkit")
    with pytest.raises(BenchError) as raised:
        plan(data, work)
    ready = "--protocol mini_voc_det_frcnn_fpn --protocol mini_voc_seg_fcn"
    assert str(raised.value).endswith(f"To run the protocols whose data can be used, add {ready}")
    assert "coco" in str(raised.value).splitlines()[0]
    assert not work.exists()
    assert len(plan(data, work, protocols=["mini_voc_seg_fcn"], seeds=1).todo) == 1


def test_a_file_that_cannot_be_imported_stops_it_before_the_data_are_read(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "odd.pth")
    with pytest.raises(BenchError, match=r"odd\.pth"):
        plan_submission(tmp_path / "odd.pth", name="x", data=tmp_path / "nowhere", work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_it_says_what_it_took_and_what_input_it_gets(tmp_path: Path) -> None:
    file, weights = tmp_path / "m.pth", resnet18().state_dict()
    torch.save({"state_dict": {f"module.encoder_q.{name}": tensor for name, tensor in weights.items()}}, file)
    found = inspect_checkpoint(file)
    card = read_card(import_checkpoint(file, name="x", work=tmp_path, mean=(0.5, 0.4, 0.3)))
    lines = describe(SubmissionPlan(card, [], [], found))
    assert lines[0] == "x: resnet18 of m.pth, under `state_dict`, prefix `module.encoder_q.`"
    assert [line.removeprefix("note: ") for line in lines[1:-1]] == list(found.notes)
    assert "RGB, mean 0.5 0.4 0.3, std 0.229 0.224 0.225" in lines[-1]
    assert describe(SubmissionPlan(card, [], []))[0] == "x: resnet18, random weights"


def test_it_ends_with_a_report_which_the_leaderboard_writes_again(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(resnet18().state_dict(), tmp_path / "m.pth")
    work, options = tmp_path / "work", {"protocols": ["mini_voc_seg_fcn"], "seeds": 2}
    random = submit(plan(tiny_data, work, **options), processes=1, execute=instant)
    print_submission(random, work)
    assert "report:" not in capsys.readouterr().out
    planned = plan_submission(tmp_path / "m.pth", name="mine", data=tiny_data, work=work, **options)
    print_submission(submit(planned, processes=1, execute=instant), work)
    page = work / "reports" / "mine" / "report.html"
    printed = capsys.readouterr().out
    assert f"report: {page}" in printed and "mine is better than random initialisation under none of 1" in printed
    made = page.read_bytes()
    page.unlink()
    assert report("mine", work=work) == 0 and page.read_bytes() == made
    assert export(format="hf-eval", benchmark="lab/dense", names=["mine"], out=tmp_path / "out", work=work) == 0
    assert (tmp_path / "out" / "mine" / ".eval_results" / "densebench.yaml").is_file()


def test_unusable_result_files_are_named_and_stop_no_other_run(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = plan(tiny_data, tmp_path, seeds=1).todo[0]
    bad = tmp_path / "results" / f"random--{run.protocol}--seed0--{run.key}.json"
    for file in (bad, bad.with_name("other.json")):
        file.write_text("{")
    blocked = plan(tiny_data, tmp_path, seeds=1)
    assert run.key not in {r.key for r in blocked.todo} and len(blocked.todo) == len(MINI.protocols) - 1
    print_submission(Submission(blocked.card, [], [], blocked.unusable), tmp_path)
    printed = capsys.readouterr().out
    assert f"problem: {bad}: " in printed and "other.json: " in printed and "move it away" in printed
    assert "next:" not in printed
    bad.unlink()
    assert run.key in {r.key for r in plan(tiny_data, tmp_path, seeds=1).todo}


def test_when_it_is_stopped_it_says_what_is_finished(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped_after_one(runs, **options):
        instant(runs[0], 1)
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.executors.base.run_all", stopped_after_one)
    text = "stopped: 1 of 5 runs of random are finished and kept; repeat the command to run the others"
    with pytest.raises(Interrupted, match=text) as stopped:
        submit(plan(tiny_data, tmp_path, seeds=1))
    assert stopped.value.exit_code == 130
    begun = plan(tiny_data, tmp_path, seeds=2).todo[0]
    begun.folder.mkdir(parents=True, exist_ok=True)
    (begun.folder / "checkpoint.pt").touch()
    text = "stopped: 2 of 10 runs of random are finished and kept, 1 saved within their training; repeat .* to continue"
    with pytest.raises(Interrupted, match=text):
        submit(plan(tiny_data, tmp_path, seeds=2))


def test_a_work_folder_that_cannot_be_written_is_said_before_the_work(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "transfers").write_text("in the way")
    with pytest.raises(FileError, match="transfers"):
        plan(tiny_data, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


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
