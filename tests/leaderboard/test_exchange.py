"""Values in the formats of other collections, read back as those read them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from fabricate import make_card, make_probe, make_protocol, make_result, make_results, sha

from leaderboard.analysis import analyse
from leaderboard.errors import LeaderboardError
from leaderboard.exchange import Evaluator, Format, exported
from leaderboard.records import RANDOM_METHOD, Copies, Pretraining, Result

PROTOCOL = "mini_voc_seg_fcn"
RESULTS = make_results({"random": {PROTOCOL: [20.0, 20.4, 19.6]}, "moco": {PROTOCOL: [30.0, 30.4, 29.6]}})
LAB = Evaluator(organization="Our lab", benchmark="lab/dense", source="https://example.org/results")


def files(results: list[Result], format: Format, **options: Any) -> dict[str, str]:
    return exported(analyse(results), format, LAB, **options)


def test_the_hub_s_file_names_value_task_and_what_the_interval_is_over() -> None:
    found = files(RESULTS, "hf-eval")
    assert set(found) == {"moco/.eval_results/densebench.yaml", "random/.eval_results/densebench.yaml"}
    (entry,) = yaml.safe_load(found["moco/.eval_results/densebench.yaml"])
    assert entry["dataset"] == {"id": "lab/dense", "task_id": PROTOCOL}
    assert entry["value"] == 30.0 and entry["source"] == {"url": LAB.source, "name": "DenseBench"}
    assert entry["date"] == max(result.finished_at for result in RESULTS).strftime("%Y-%m-%d")
    assert (
        "mIoU in per cent; 95 % interval 29.01\N{EN DASH}30.99 over 3 seeds; 3 runs of 1 checkpoint" in entry["notes"]
    )
    assert "; 300 training and 100 validation images; resnet18;" in entry["notes"] and "copies" not in entry["notes"]
    assert RESULTS[0].protocol.sha256[:12] in entry["notes"] and RESULTS[0].dataset.fingerprint[:12] in entry["notes"]


def test_several_random_networks_are_no_pretraining_runs() -> None:
    seen = [Pretraining.known(group=sha("random")[:16], seed=seed) for seed in range(3)]
    cards = [make_card(f"random-{one.seed}", method=RANDOM_METHOD, pretraining=one) for one in seen]
    found = files([make_probe(card, 20.0 + place) for place, card in enumerate(cards)], "hf-eval")
    (entry,) = yaml.safe_load(found["random/.eval_results/densebench.yaml"])
    assert "over 3 networks; 3 runs of 3 checkpoints" in entry["notes"]


def test_the_shared_schema_s_record_holds_error_and_interval() -> None:
    """Student's quantile for two degrees of freedom is 4.302653, the standard error 0.4 / sqrt 3."""
    found = files(RESULTS, "every-eval-ever", names=frozenset({"moco"}))
    ((path, content),) = found.items()
    record = json.loads(content)
    assert path.startswith("data/densebench/Our-lab/moco/") and path.endswith(".json")
    assert record["schema_version"] == "0.3.0" and record["model_info"]["id"] == "Our-lab/moco"
    (evaluation,) = record["evaluation_results"]
    assert evaluation["metric_config"]["lower_is_better"] is False
    details = evaluation["score_details"]
    assert details["score"] == 30.0 and details["details"]["mIoU"] == "30.0000"
    uncertainty = details["uncertainty"]
    assert uncertainty["standard_error"]["value"] == pytest.approx(0.4 / 3**0.5, abs=1e-4)
    assert uncertainty["confidence_interval"]["lower"] == pytest.approx(30 - 4.302653 * 0.4 / 3**0.5, abs=1e-4)
    assert uncertainty["standard_deviation"] == 0.4
    texts = [record["model_info"], evaluation["source_data"], evaluation["metric_config"]]
    assert all(isinstance(fact, str) for part in texts for fact in part["additional_details"].values())


@pytest.mark.parametrize("format", ["hf-eval", "every-eval-ever"])
def test_the_same_results_give_the_same_bytes(format: Format) -> None:
    assert files(RESULTS, format) == files(RESULTS[::-1], format)


def test_a_single_run_has_no_interval_and_says_so() -> None:
    single = [make_result("moco", metrics={"mIoU": 30.0, "notes": 1.0}, standard_errors={})]
    (content,) = files(single, "every-eval-ever").values()
    details = json.loads(content)["evaluation_results"][0]["score_details"]
    assert "uncertainty" not in details and "no interval" in details["details"]["notes"]


def searched(copies: int | None) -> Result:
    """A probe of a checkpoint among whose pretraining images `copies` were found; None: nobody searched."""
    found = None if copies is None else (Copies(dataset="voc2012_seg", tested=100, copies=copies),)
    return make_probe(make_card("web", pretraining=Pretraining.known(data="web", copies=found)))


@pytest.mark.parametrize(("copies", "detail"), [(12, "12 of 100"), (0, "0 of 100"), (None, None)])
def test_copies_of_test_images_are_told_with_the_value(copies: int | None, detail: str | None) -> None:
    (content,) = files([searched(copies)], "every-eval-ever").values()
    details = json.loads(content)["evaluation_results"][0]["score_details"]["details"]
    assert details.get("copies_of_test_images") == detail
    (content,) = files([searched(copies)], "hf-eval").values()
    (entry,) = yaml.safe_load(content)
    assert entry["notes"] == details["notes"]
    told = "; copies of 12 of the 100 test images are among the pretraining images; " in entry["notes"]
    assert told == bool(copies) == ("copies" in entry["notes"])


def test_text_of_others_stays_text() -> None:
    hostile = [make_result(make_card("moco", method="x: [!!python/name:os.system] \N{SNOWMAN}", license="a: b"))]
    (content,) = files(hostile, "hf-eval").values()
    assert [set(entry) for entry in yaml.safe_load(content)] == [{"dataset", "value", "date", "source", "notes"}]
    (content,) = files(hostile, "every-eval-ever").values()
    assert json.loads(content)["model_info"]["additional_details"]["license"] == "a: b"


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("../../../escaped/MoCo v2", "escaped-MoCo-v2"),
        ("/root/x", "root-x"),
        ("DenseCL+", "DenseCL+"),
        ("\N{SNOWMAN} ..", "unnamed"),
        ("x" * 100, "x" * 80),
    ],
)
def test_a_row_without_a_common_name_has_the_method_s_with_a_file_name_s_characters(method: str, label: str) -> None:
    cards = [
        make_card(name, method=method, pretraining=Pretraining.known(group=sha("group")[:16], seed=seed))
        for seed, name in enumerate(("alpha", "beta"))
    ]
    results = [make_result(card, value=40.0) for card in cards]
    assert set(files(results, "hf-eval")) == {f"{label}/.eval_results/densebench.yaml"}
    (path,) = files(results, "every-eval-ever")
    assert re.fullmatch(rf"data/densebench/Our-lab/{re.escape(label)}/[0-9a-f-]+\.json", path)


def test_labels_that_would_be_equal_are_told_apart() -> None:
    results = [
        make_result(make_card(name, method=method, pretraining=Pretraining.known(group=sha(method)[:16], seed=seed)))
        for method, names in (("My method", ("alpha", "beta")), ("My/method", ("gamma", "delta")))
        for seed, name in enumerate(names)
    ]
    folders = {path.partition("/")[0] for path in files(results, "hf-eval")}
    assert len(folders) == 2 and all(re.fullmatch(r"My-method-[0-9a-f]{8}", folder) for folder in folders)


def test_what_is_missing_is_said() -> None:
    board = analyse(RESULTS)
    with pytest.raises(LeaderboardError, match="--benchmark OWNER/NAME"):
        exported(board, "hf-eval", Evaluator(organization="Our lab"))
    with pytest.raises(LeaderboardError, match="--organization NAME"):
        exported(board, "every-eval-ever", Evaluator(benchmark="lab/dense"))
    with pytest.raises(LeaderboardError, match="no submission 'mocov2' has values; there are moco, random"):
        exported(board, "hf-eval", LAB, frozenset({"mocov2"}))
    own = [make_result("moco", make_protocol(), dataset=RESULTS[0].dataset.model_copy(update={"classes": ("nut",)}))]
    with pytest.raises(LeaderboardError, match="on data of your own"):
        exported(analyse(own), "hf-eval", LAB)
