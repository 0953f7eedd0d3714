"""What `densebench plan` says: noise from results and from literature, runs, hours, and what images allow."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.cli import run
from bench.planning import LITERATURE, Option, cheapest, options
from bench.power import least_known_error, pooled_sd, power, runs_needed
from bench.protocols import load_protocol
from leaderboard.records import (
    RANDOM_METHOD,
    Card,
    DatasetReference,
    Environment,
    Pretraining,
    ProbeReport,
    Result,
    Source,
    TrainingReport,
    result_key,
)
from leaderboard.records.card import group_id
from leaderboard.shares import SHARES, Shares
from leaderboard.store import ResultStore

SEG, COCO, PROBE, FULL = map(
    load_protocol,
    ("mini_voc_seg_fcn", "mini_coco_mrcnn_fpn", "frozen_city_seg_linear", "paper_coco_mrcnn_fpn_1x_b"),
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def card(method: str, seed: int) -> Card:
    group = (sha(f"recipe {method}"), sha("images"))
    trained = method != RANDOM_METHOD
    return Card(
        schema_version=2, name=f"{method.split()[0]}-seed{seed}", method=method, architecture="resnet18", stem="7x7",
        norm="BN", stride_style="pytorch", color_order="RGB", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2),
        parameters=11_176_512, sha256=sha(f"{method} {seed}"), license=None, code_commit=None,
        pretraining=Pretraining.known(
            recipe_sha256=group[0] if trained else None, data_fingerprint=group[1] if trained else None,
            group=group_id(*group, None) if trained else None, seed=seed,
        ),
        source=Source(format="densebench run", file="checkpoint.pt", sha256=sha("file"), key_prefix=""),
    )  # fmt: skip


def result(protocol: Any, of: Card, seed: int, value: float, *, data: str = "data", **fields: Any) -> Result:
    dataset = DatasetReference(
        name=protocol.dataset, fingerprint=sha(data), train_images=8, val_images=50, classes=None
    )
    reference = protocol.reference()
    report: dict[str, Any] = {
        "training": TrainingReport(
            planned_iterations=2, executed_iterations=2, batch_size=2, learning_rate=0.1, images_seen=4,
            backbone_tensors=120, trainable_parameters=1, frozen_parameters=0, head_parameters=1,
        ),
        "probe": None,
    }  # fmt: skip
    if reference.track == "frozen":
        report = {
            "training": None,
            "probe": ProbeReport(
                backbone_tensors=120, head_parameters=1, channels=768, training_cells=9, images_evaluated=50, chosen=1,
                candidates={"1": 5},
            ),
        }  # fmt: skip
    values: dict[str, Any] = {
        "schema_version": 2, "key": result_key(of.sha256, protocol.sha256, dataset.fingerprint, seed), "card": of,
        "protocol": reference, "dataset": dataset, "seed": seed, "status": "finished", "failure": None,
        "metrics": {reference.headline: value}, "standard_errors": {}, "operations": None,
        "verification": "self-reported", "sweep": None,
        "environment": Environment(
            device="CPU", precision="fp32", threads=1, python="3", packages={}, code_commit=None
        ),
        "outputs": {}, "finished_at": datetime(2026, 1, 1, tzinfo=UTC), "wall_seconds": 90.0, "seconds": {},
        "peak_memory_mib": None,
    }  # fmt: skip
    return Result(**{**values, **report, **fields})


def found(*results: Result, protocol: Any = SEG, difference: float = 1.0) -> list[Option]:
    return options([protocol], results, lambda _: None, difference=difference, power=0.8)


def test_noise_is_pooled_over_seeds_and_over_pretraining_runs() -> None:
    values = {"A": {0: [20.0, 21.0, 23.0], 1: [24.0]}, "B": {0: [30.0, 30.5]}, RANDOM_METHOD: {0: [9.0], 1: [1.0]}}
    results = [
        result(SEG, card(method, number), seed, value, wall_seconds=100.0 + seed)
        for method, checkpoints in values.items()
        for number, runs in checkpoints.items()
        for seed, value in enumerate(runs)
    ]
    seeds, pretraining = found(*results)
    assert seeds.noise is not None and pretraining.noise is not None
    assert (seeds.noise.sd, seeds.noise.freedom) == pooled_sd([[20, 21, 23], [30, 30.5]])
    assert seeds.noise.source == "measured: 5 seeds of 2 checkpoints"
    assert (pretraining.noise.sd, pretraining.noise.freedom) == pooled_sd([[64 / 3, 24]])
    assert pretraining.noise.source == "measured: 2 pretraining runs of 1 method"
    assert seeds.runs == runs_needed(1.0, seeds.noise.sd, 0.8)
    assert seeds.runs is not None and seeds.cautious_runs is not None and seeds.cautious_runs > seeds.runs
    assert power(seeds.least_with_few or 0, seeds.noise.sd, 3) == pytest.approx(0.8, abs=1e-6)
    seconds = np.mean([100, 101, 102, 100, 100, 101, 100, 100])
    assert seeds.hours == pytest.approx(2 * seeds.runs * seconds / 3600)
    assert pretraining.evaluations == 2  # three seeds of one pretraining run, one of the other
    _, nearer = found(*results, difference=10.0)
    assert nearer.hours == pytest.approx(2 * (nearer.runs or 0) * 2 * seconds / 3600)


def test_literature_stands_in_for_full_size_as_a_lower_bound() -> None:
    (option,) = found(protocol=FULL)
    assert option.noise is LITERATURE["coco2017"] and not option.measured
    assert option.runs == 3 and option.hours is None
    for small in (COCO, SEG):
        (option,) = found(protocol=small)
        assert option.noise is None and option.runs is None and not option.measured


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_images_are_told_whether_or_not_the_noise_is_known(
    seeds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ResultStore(tmp_path / "results")
    for method, signs in (("A", 1.0), ("B", -1.0)):
        content = Shares(("a", "b"), {"mIoU": signs * np.array([0.5, -0.5])}).to_bytes()
        outputs = {SHARES: hashlib.sha256(content).hexdigest()}
        for seed in range(seeds):
            store.add(result(SEG, card(method, 0), seed, 20.0 + 0.1 * seed, outputs=outputs), content)

    def option(difference: float) -> Option:
        return options([SEG], store.load()[0], store.shares, difference=difference, power=0.8)[0]

    least = option(1.0).least_over_images
    assert least is not None
    few, enough = option(0.99 * least), option(1.01 * least)
    assert few.enough_images is False and cheapest([few]) is None
    assert enough.enough_images is True and (enough.runs is None) == (few.runs is None) == (seeds == 1)
    assert few.measured == enough.measured == (seeds == 2)
    said = ("2 (2) *", "2 (2) ") if seeds == 2 else ("too few images", "not known")
    for difference, words in zip((0.99 * least, 1.01 * least), said, strict=True):
        assert run(["plan", "--difference", str(difference), "--results", str(tmp_path / "results")]) == 0
        shown = capsys.readouterr().out
        (row,) = [line for line in shown.splitlines() if line.startswith(SEG.id)]
        assert words in row and ("too few images" in row or "*" in row) == (difference < least)
        assert (SEG.id in shown[shown.index("not measured here") :]) == (seeds == 1 and difference > least)
        assert (f"however many runs: the least is {SEG.id} {least:.2g}" in shown) == (difference < least)


def test_failed_runs_and_other_data_are_left_out() -> None:
    one = card("A", 0)
    (option,) = found(
        result(SEG, one, 0, 20.0),
        result(SEG, one, 1, 21.0),
        result(SEG, one, 2, 90.0, data="other"),
        result(SEG, one, 3, 0.0, status="failed", failure="diverged", metrics={}),
        result(COCO, one, 0, 50.0),
    )
    assert option.noise is not None and option.noise.sd == pytest.approx(np.sqrt(0.5))


def test_probes_are_decided_by_their_images() -> None:
    rng = np.random.default_rng(0)
    common = rng.standard_normal(50)
    shares = {}
    for seed in range(3):
        own = common + 0.1 * rng.standard_normal(50)
        shares[card("A", seed).sha256] = Shares(tuple(map(str, range(50))), {"mIoU": own - own.mean()})
    results = [result(PROBE, card("A", seed), 0, 20.0 + seed) for seed in range(3)]

    def options_for(difference: float) -> list[Option]:
        return options([PROBE], results, lambda one: shares[one.card.sha256], difference=difference, power=0.8)

    images, pretraining = options_for(5.0)
    a, b, c = shares.values()
    errors = [
        np.sqrt(50 / 49 * np.square(x.metrics["mIoU"] - y.metrics["mIoU"]).sum()) for x, y in ((a, b), (a, c), (b, c))
    ]
    assert images.least_over_images == pytest.approx(least_known_error(float(np.median(errors)), 0.8))
    assert (images.repeated, images.runs) == ("nothing", 1)
    assert images.hours == pytest.approx(180 / 3600)
    assert pretraining.noise is not None and pretraining.noise.sd == 1
    assert options_for(0.5)[0].runs is None
    assert cheapest([images, pretraining]) is images
    _, unknown = options([PROBE], results[:1], lambda one: shares[one.card.sha256], difference=5.0, power=0.8)
    assert (unknown.repeated, unknown.noise, unknown.runs) == ("pretraining run", None, None)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ResultStore(tmp_path / "results")
    for seed, value in enumerate((20.0, 20.4, 20.9)):
        store.add(result(SEG, card("A", 0), seed, value))
    content = Shares(("a", "b"), {"mIoU": np.array([0.2, -0.2])}).to_bytes()
    outputs = {SHARES: hashlib.sha256(content).hexdigest()}
    store.add(result(SEG, card("B", 0), 0, 22.0, outputs=outputs), content)
    line = ["plan", "--difference", "1", "--results", str(tmp_path / "results")]
    assert run([*line, "--json"]) == 0
    options = {option["protocol"]: option for option in json.loads(capsys.readouterr().out)}
    assert options["mini_voc_seg_fcn"]["noise"]["sd"] == pytest.approx(np.std([20, 20.4, 20.9], ddof=1))
    assert run(line) == 0
    shown = capsys.readouterr().out
    assert "cheapest: mini_voc_seg_fcn, 5 of each, 0.25 hours" in shown
    assert "not measured here: mini_voc_det_frcnn_fpn, mini_coco_mrcnn_fpn, mini_city_inst_mrcnn_fpn" in shown
    for wrong, words in (
        (["--difference", "0"], "above 0"),
        (["--difference", "1", "--power", "1"], "usually .8"),
        (["--difference", "1", "--track", "x"], "mini"),
    ):
        assert run(["plan", *wrong]) == 1
        assert words in capsys.readouterr().err
