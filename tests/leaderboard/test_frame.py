"""The CSV: its rows against an independent computation, its form, its safety."""

import csv
import io
import json
import statistics

import pandas as pd
import pytest
from fabricate import make_card, make_result, make_results

from leaderboard import frame
from leaderboard.analysis import analyse
from leaderboard.records import Pretraining, group_id

SEG, DET = "mini_voc_seg_fcn", "mini_voc_det_frcnn_fpn"
VALUES = {
    "random": {SEG: [10.0, 11.0, 12.5], DET: [1.0, 2.0, 3.0]},
    "moco": {SEG: [20.0, None, 21.0], DET: [5.0]},
    "broken": {SEG: [None]},
}


def rows_of(results):
    return list(csv.DictReader(io.StringIO(frame.csv(analyse(results)))))


def test_columns_are_the_documented_ones():
    for row in rows_of(make_results(VALUES)):
        assert list(row) == list(frame.COLUMNS)


def test_figures():
    rows = {(row["submission"], row["protocol"]): row for row in rows_of(make_results(VALUES))}
    row = rows["random", SEG]
    assert float(row["mean"]) == pytest.approx(statistics.fmean([10, 11, 12.5]), abs=1e-4)
    assert float(row["sd"]) == pytest.approx(statistics.stdev([10, 11, 12.5]), abs=1e-4)
    assert float(row["ci95_low"]) < 10
    assert row["seeds"] == "0;1;2"
    assert row["values"] == "10.0000;11.0000;12.5000"
    assert (row["score"], row["score_low"], row["interval_over"]) == ("0.0000", "", "seeds")
    assert json.loads(row["metric_values"])["extra"] == [5.0, 5.5, 6.25]
    assert json.loads(row["metrics"])["mIoU"] == pytest.approx(33.5 / 3, abs=1e-4)
    assert row["wall_seconds"] == "72.5"
    assert (row["head_parameters"], row["backbone_gflop"], row["head_gflop"]) == ("800000", "0.6600", "0.0400")
    moco = rows["moco", SEG]
    assert (moco["finished"], moco["failed"], moco["failed_seeds"], moco["seeds"]) == ("2", "1", "1", "0;2")
    assert len(moco["run_keys"].split(";")) == 3
    single = rows["moco", DET]
    assert (single["mean"], single["sd"], single["ci95_low"], single["tier"]) == ("5.0000", "", "", "")
    broken = rows["broken", SEG]
    assert (broken["finished"], broken["mean"], broken["rank"], broken["score"]) == ("0", "", "", "")


def test_rows_are_best_first_in_each_group():
    order = [(row["protocol"], row["submission"]) for row in rows_of(make_results(VALUES))]
    assert order == [(DET, "moco"), (DET, "random"), (SEG, "moco"), (SEG, "random"), (SEG, "broken")]


def test_differing_runs_show_all_that_occurs():
    slow = make_result(seed=0, value=1.0)
    other = slow.environment.model_copy(update={"device": "GPU"})
    row = rows_of([slow, make_result(seed=1, value=2.0, environment=other)])[0]
    assert row["device"] == "CPU, 2 threads;GPU"


def test_strangers_words_stay_in_their_field():
    card = make_card("x", method='=HYPERLINK("http://a"), "b', pretraining=Pretraining.known(data="@a; b,c"))
    rows = rows_of([make_result(card)])
    assert len(rows) == 1
    assert rows[0]["method"] == '\'=HYPERLINK("http://a"), "b'
    assert rows[0]["pretraining_data"] == "'@a; b,c"


def test_the_frame_holds_the_csv():
    board = analyse(make_results(VALUES))
    rows = rows_of(make_results(VALUES))
    for (_, found), row in zip(frame.frame(board).iterrows(), rows, strict=True):
        for name, (kind, _) in frame.COLUMNS.items():
            if row[name] == "":
                assert found[name] is pd.NA
            else:
                assert found[name] == (float(row[name]) if kind in {frame.WHOLE, frame.REAL} else row[name])


@pytest.mark.parametrize("values", [{}, {"moco": {SEG: [5.0]}}, {"broken": {SEG: [None]}}, VALUES])
def test_types_do_not_depend_on_the_content(values, tmp_path):
    board = analyse(make_results(values))
    expected = {frame.TEXT: "string", frame.LIST: "string", frame.WHOLE: "Int64", frame.REAL: "Float64"}
    (tmp_path / "l.csv").write_text(frame.csv(board))
    for read in (frame.frame(board), frame.read_csv(tmp_path / "l.csv")):
        assert {name: str(kind) for name, kind in read.dtypes.items()} == {
            name: expected[kind] for name, (kind, _) in frame.COLUMNS.items()
        }


def test_overall_figures():
    rows = {(row["submission"], row["protocol"]): row for row in rows_of(make_results(VALUES))}
    moco = rows["moco", SEG]
    assert (moco["protocols"], moco["protocols_of_track"], moco["mean_rank"]) == ("2", "2", "1.0000")
    scores = [float(rows["moco", protocol]["score"]) for protocol in (SEG, DET)]
    assert float(moco["overall_score"]) == pytest.approx(statistics.fmean(scores), abs=1e-4)
    assert moco["overall_tier"] == ""  # a single run under one protocol
    assert rows["broken", SEG]["mean_rank"] == ""


def test_no_results_give_the_header():
    assert frame.csv(analyse([])) == ",".join(frame.COLUMNS) + "\n"


def test_seeds_and_group_of_the_pretraining_are_told():
    sha256 = "ab" * 32
    group = group_id(sha256, sha256, None)
    seen = [Pretraining.known(recipe_sha256=sha256, data_fingerprint=sha256, group=group, seed=seed) for seed in (3, 4)]
    results = [make_result(make_card(f"x-{one.seed}", method="X", pretraining=one)) for one in seen]
    (row,) = rows_of(results)
    assert (row["submission"], row["checkpoints"], row["pretraining_runs"]) == ("x", "x-3;x-4", "2")
    assert (row["pretraining_seeds"], row["pretraining_group"]) == ("3;4", group)
    assert row["checkpoint_sha256"] == ";".join(result.card.sha256 for result in results)
    (row,) = rows_of([make_result(make_card("x", pretraining=Pretraining.known()))])
    assert (row["pretraining_seeds"], row["pretraining_group"]) == ("?", "")


def test_a_row_names_the_checkpoints_that_ran_under_its_protocol():
    seen = [Pretraining.known(group="a" * 16, seed=seed) for seed in (3, 4)]
    cards = [make_card(f"x-{one.seed}", method="X", pretraining=one) for one in seen]
    results = [make_result(cards[0], SEG), make_result(cards[0], DET), make_result(cards[1], SEG)]
    found = {row["protocol"]: (row["checkpoints"], row["pretraining_seeds"]) for row in rows_of(results)}
    assert found == {SEG: ("x-3;x-4", "3;4"), DET: ("x-3", "3")}
