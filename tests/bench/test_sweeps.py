"""Track fair: one grid for every checkpoint, chosen on held-out training images, and nothing of it ranked."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_fine_tuning import fake
from training_plans import plan_of

from bench.checkpoints import random_backbone
from bench.cli import run as command
from bench.config_data import hash_config
from bench.errors import BenchError
from bench.jobs import Outcome
from bench.known import known_to_leaderboard
from bench.protocols import Protocol, load_protocol, trials, with_batch
from bench.report import RunReporter
from bench.submit import Submission, plan_submission, submit
from bench.sweep_config import SweepPlan, read_sweep, with_settings
from bench.tracks import FAIR, PAPER
from leaderboard.analysis import analyse
from leaderboard.beside import beside
from leaderboard.errors import LeaderboardError
from leaderboard.frame import csv
from leaderboard.records import Result
from leaderboard.store import ResultStore
from leaderboard.submission import report_on
from leaderboard.sweeps import describe_choice, sweep_rows

ALL = (*FAIR.protocols, *FAIR.further)
SEG = "fair_mini_voc_seg_fcn"


def sweep_of(protocol: Protocol) -> SweepPlan:
    assert protocol.sweep is not None
    return protocol.sweep


def base_of(protocol_id: str) -> Protocol:
    name = protocol_id.removeprefix("fair_")
    return load_protocol(name if name.startswith("mini_") else f"paper_{name}")


def test_the_track_has_what_makes_the_standings_of_track_paper() -> None:
    assert [base_of(name).id for name in FAIR.protocols] == list(PAPER.protocols)


@pytest.mark.parametrize("name", ALL)
def test_everything_but_the_choice_is_the_other_tracks(name: str) -> None:
    protocol, base = load_protocol(name), base_of(name)
    own, other = dict(protocol.config), dict(base.config)
    header, its = own.pop("protocol"), other.pop("protocol")
    sweep = sweep_of(protocol)
    assert own.pop("sweep") and own == other and header["plan"] == its["plan"]
    rate = plan_of(protocol).learning_rate
    decay = own["optim_wrapper"]["optimizer"]["weight_decay"]
    assert {"learning_rate": rate, "weight_decay": decay} in sweep.grid, "the other track's settings are tried, too"
    assert list(sweep.learning_rates) == sorted(sweep.learning_rates) and len(set(sweep.learning_rates)) == 5
    assert rate not in (sweep.learning_rates[0], sweep.learning_rates[-1])
    assert sweep.iterations <= plan_of(protocol).iterations / 4 and sweep.seed not in FAIR.seeds


@pytest.mark.parametrize("name", [*ALL, f"{SEG}_batch2", "fair_voc0712_det_c4_24k_batch4"])
def test_each_run_of_a_sweep_is_a_protocol_with_an_id_and_a_hash_of_its_own(name: str) -> None:
    protocol = load_protocol(name)
    found = trials(protocol)
    assert len({one.sha256 for one in found}) == len({one.id for one in found}) == len(sweep_of(protocol).grid)
    for one, settings in zip(found, sweep_of(protocol).grid, strict=True):
        plan, optimizer = plan_of(one), one.config["optim_wrapper"]["optimizer"]
        assert load_protocol(one.id) == one and one.sweep is None and one.reference().track == "fair"
        assert (plan.learning_rate, plan.iterations) == (settings["learning_rate"], sweep_of(protocol).iterations)
        assert (optimizer["lr"], optimizer["weight_decay"]) == tuple(settings.values())
        shape = plan_of(protocol).final_learning_rate / plan_of(protocol).learning_rate
        assert plan.final_learning_rate / plan.learning_rate == pytest.approx(shape)
        assert plan.held_out == sweep_of(protocol).held_out and one.config["trial"]["of"] == protocol.id
    assert hash_config(protocol.config) == protocol.sha256, "the protocol itself was changed"


@pytest.mark.parametrize("name", ["fair_mini_coco_mrcnn_fpn", SEG])
def test_the_rate_follows_the_same_course_in_fewer_iterations(name: str) -> None:
    """The schedulers that mmengine builds: peak and end as planned, drops at the same share of the iterations."""
    for one in trials(load_protocol(name)):
        rates = executed(one)
        assert max(rates) == pytest.approx(plan_of(one).learning_rate)
        assert rates[-1] == pytest.approx(plan_of(one).final_learning_rate, rel=1e-3)
    if "coco" in name:
        assert one.config["param_scheduler"][1]["milestones"] == [45, 55]


def executed(protocol: Protocol) -> list[float]:
    from mmengine.optim import scheduler as schedulers

    plan = plan_of(protocol)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=plan.learning_rate)
    entries = [dict(entry) for entry in protocol.config["param_scheduler"]]
    built: list[Any] = [getattr(schedulers, entry.pop("type"))(optimizer, **entry) for entry in entries]
    rates = []
    for _ in range(plan.iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return rates


def test_the_head_keeps_the_ratio_of_its_rate() -> None:
    protocol = load_protocol(SEG)
    own, tried = plan_of(protocol), [plan_of(trial) for trial in trials(protocol)]
    assert own.head_learning_rate is not None and own.head_learning_rate != own.learning_rate
    ratios = [(plan.head_learning_rate or 0) / plan.learning_rate for plan in tried]
    assert ratios == pytest.approx([own.head_learning_rate / own.learning_rate] * len(sweep_of(protocol).grid))


def test_norms_have_the_share_of_the_weight_decay_that_they_have_in_the_protocol() -> None:
    settings = {"learning_rate": 0.03, "weight_decay": 0.002}
    decays = {}
    for name in ("fair_voc0712_det_c4_24k", "fair_city_seg_fcn_d8_40k"):
        decays[name] = with_settings(load_protocol(name).config, settings)["protocol"]["plan"]["norm_weight_decay"]
    assert list(decays.values()) == [0.0, 0.002]


def test_a_grid_that_is_not_valid_is_refused() -> None:
    config = dict(load_protocol(SEG).config)
    with pytest.raises(ValueError, match="1 to 120 iterations, not 121"):
        read_sweep(config | {"sweep": config["sweep"] | {"iterations": 121}})
    for wrong in ({"learning_rates": []}, {"learning_rates": [0.0]}, {"weight_decays": [-1.0]}, {"held_out_by": "x"}):
        with pytest.raises(ValueError, match="a sweep"):
            read_sweep(config | {"sweep": config["sweep"] | wrong})
    with pytest.raises(BenchError, match=r"tries no such settings: its sweep has fair_mini_voc_seg_fcn_lr0\.0005"):
        load_protocol(f"{SEG}_lr7_wd0")
    with pytest.raises(BenchError, match="its sweep has no runs"):
        load_protocol("mini_voc_seg_fcn_lr7_wd0")


def best_at(rate: float, *, diverged: tuple[float, ...] = ()) -> Any:
    """Values that are best at a learning rate; runs with the rates `diverged` diverge."""

    def value(protocol: Protocol, seed: int) -> float | None:
        own = plan_of(protocol).learning_rate
        return None if own in diverged else 50.0 - 1000 * abs(own - rate) + seed % 10

    return value


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_backbone("resnet18", seed=0, name="random", work=tmp_path_factory.mktemp("network"))


@pytest.fixture(autouse=True)
def imported_once(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import of the same network takes longer than everything else here."""
    monkeypatch.setattr("bench.submit.import_checkpoint", lambda *_, **__: network)


def submitted(data: Path, work: Path, value: Any, *, seeds: int = 2, **changes: Any) -> Submission:
    plan = plan_submission(
        "random:resnet18:0", name="random", data=data, work=work, track="fair", protocols=[SEG], seeds=seeds
    )
    return submit(plan, executor=InProcess(), execute=partial(fake, value=value), **changes)


class InProcess:
    """Executes runs here; an error is a failure."""

    at_once = False

    def run_all(self, runs: Any, *, finished: Any, execute: Any) -> list[Any]:
        outcomes = []
        for run in runs:
            try:
                execute(run, 1)
                outcomes.append(Outcome(run, 0.0, None))
            except (BenchError, RuntimeError) as error:
                outcomes.append(Outcome(run, 0.0, str(error)))
            finished(outcomes[-1])
        return outcomes


def results_in(work: Path) -> tuple[list[Result], list[Result]]:
    """The runs of sweeps, and the others."""
    found = list(ResultStore(work / "results"))
    return [one for one in found if one.held_out], [one for one in found if not one.held_out]


def test_the_best_on_held_out_images_is_used_with_seeds_that_the_sweep_does_not_use(
    tiny_data: Path, tmp_path: Path
) -> None:
    submission = submitted(tiny_data, tmp_path, best_at(0.002))
    tried, own = results_in(tmp_path)
    assert not submission.failures and (len(tried), len(own)) == (5, 2)
    assert {one.seed for one in tried} == {1000} and sorted(one.seed for one in own) == [0, 1]
    assert len({one.protocol.sha256 for one in (*tried, *own)}) == 6
    for one in own:
        assert one.sweep is not None and one.training is not None
        assert one.sweep.settings == {"learning_rate": 0.002, "weight_decay": 0.0005} and one.sweep.at_edge == ()
        assert one.training.learning_rate == 0.002 and one.protocol.sha256 == load_protocol(SEG).sha256
        values = {result.key: result.metrics["mIoU"] for result in tried}
        assert {one.key: one.value for one in one.sweep.tried} == values
        assert [one.settings for one in one.sweep.tried] == sweep_of(load_protocol(SEG)).grid
    before = (tmp_path / "executions").read_text()
    assert not submitted(tiny_data, tmp_path, best_at(0.01)).failures
    assert (tmp_path / "executions").read_text() == before, "nothing that is finished is done twice"
    submitted(tiny_data, tmp_path, best_at(0.01), seeds=3)
    assert (tmp_path / "executions").read_text().count("\n") == 8, "another seed needs no other sweep"


def test_runs_wait_for_their_sweep(tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def dies_at(rate: float) -> Any:
        def value(protocol: Protocol, seed: int) -> float | None:
            if plan_of(protocol).learning_rate == rate:
                raise RuntimeError("out of luck")
            return 1.0

        return value

    plan = plan_submission(
        "random:resnet18:0", name="random", data=tiny_data, work=tmp_path, track="fair", protocols=[SEG], seeds=2
    )
    execute = partial(fake, value=dies_at(0.005))
    found = submit(plan, executor=InProcess(), finished=RunReporter(plan), execute=execute)
    assert [outcome.run.seed for outcome in found.failures] == [1000, 0, 1]
    assert found.failures[1].failure == "not started: 1 of 5 runs of its sweep have no result"
    assert "[7/7] random  fair_mini_voc_seg_fcn  seed 1  FAILED: not started" in capsys.readouterr().out
    tried, own = results_in(tmp_path)
    assert (len(tried), own) == (4, [])
    assert not submitted(tiny_data, tmp_path, best_at(0.005)).failures
    assert len(results_in(tmp_path)[1]) == 2 and (tmp_path / "executions").read_text().count("\n") == 5 + 1 + 2


def test_what_diverged_is_kept_and_not_chosen_and_an_edge_is_said(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted(tiny_data, tmp_path, best_at(0, diverged=(0.01,)))
    tried, own = results_in(tmp_path)
    assert [one.status for one in tried].count("failed") == 1 and len(own) == 2
    assert own[0].sweep is not None
    assert own[0].sweep.tried[-1].value is None and own[0].sweep.at_edge == ("learning_rate",)
    edge = "learning rate at the edge of the grid"
    words = f"learning rate 0.0005, weight decay 0.0005, the best of 5; 1 diverged; {edge}"
    assert describe_choice(own[0].sweep) == words
    board = analyse((*tried, *own), known_to_leaderboard()["protocols"])
    first, second = board.notes
    assert first == "5 runs of sweeps stand in no table: `densebench leaderboard sweeps` lists them"
    assert second == f"random, {SEG}: {words}; a better value may lie beyond"
    methods = report_on(board, "random").chapters[0].methods
    assert f"({SEG}: {words})" in methods and "not tuned" not in methods
    submitted(tiny_data, tmp_path, best_at(0.01))
    assert (tmp_path / "executions").read_text().count("\n") == 7, "a run that diverged is not repeated"
    assert command(["leaderboard", "sweeps", "--work", str(tmp_path)]) == 0
    assert "failed" in capsys.readouterr().out


def test_without_any_that_did_not_diverge_there_is_nothing_to_choose(tiny_data: Path, tmp_path: Path) -> None:
    found = submitted(tiny_data, tmp_path, lambda protocol, seed: None)
    assert [outcome.failure for outcome in found.failures] == 2 * [
        f"{SEG}: all 5 runs of its sweep diverged, so no settings can be chosen"
    ]


def test_no_table_ranks_a_run_of_a_sweep_and_two_tracks_stand_beside_each_other(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted(tiny_data, tmp_path, best_at(0.005))
    plan = plan_submission(
        "random:resnet18:0", name="random", data=tiny_data, work=tmp_path, protocols=["mini_voc_seg_fcn"], seeds=2
    )
    submit(plan, executor=InProcess(), execute=partial(fake, value=best_at(0.005)))
    tried, own = results_in(tmp_path)
    known = known_to_leaderboard()["protocols"]
    board = analyse((*tried, *own), known)
    assert board.tracks == analyse(own, known).tracks and [track.id for track in board.tracks] == [
        "fair-further",
        "mini",
    ]
    (row,) = [line for line in csv(board).splitlines() if line.startswith("fair-further")]
    assert all(one.key in row for one in tried), "they stand with the row whose settings they chose"
    headings, rows = beside(board, "mini", "fair")
    assert headings[3:5] == ["mini", "fair"]
    chosen = "learning rate 0.005, weight decay 0.0005"
    assert rows == [["random", "resnet18", "mini_voc_seg_fcn mIoU", "47.5 ± 6.4", "50.5 ± 6.4", "3.0 ± 3.0", chosen]]
    with pytest.raises(LeaderboardError, match="no results of paper and fair"):
        beside(board, "paper", "fair")
    listed = sweep_rows((*tried, *own))
    assert [row[2:] for row in listed][3] == [chosen, "50.00", "chosen"] and len(listed) == 5
    assert command(["leaderboard", "beside", "mini", "fair", "--work", str(tmp_path)]) == 0
    assert "50.5 ± 6.4" in capsys.readouterr().out


def test_what_cannot_be_submitted_is_said(tiny_data: Path, tmp_path: Path) -> None:
    refused = {f"{SEG}_lr0.002_wd0.0005": f"is a run of a sweep: submit {SEG}", "mini_voc_seg_fcn": "has no protocol"}
    for name, words in refused.items():
        with pytest.raises(BenchError, match=words):
            plan_submission("random:resnet18", name="r", data=tiny_data, work=tmp_path, track="fair", protocols=[name])


def test_smaller_batches_scale_the_grid() -> None:
    protocol = with_batch(load_protocol(SEG), 2)
    assert sweep_of(protocol).learning_rates == (0.00025, 0.0005, 0.001, 0.0025, 0.005)
    assert sweep_of(protocol).iterations == 240 and trials(protocol)[0].id == f"{SEG}_batch2_lr0.00025_wd0.0005"
