"""What a rehearsal says: measured values, what is computed from them, and what is missing."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_verifying import write_protocol

from bench import rehearsal
from bench.cli import run as command
from bench.jobs import Outcome
from bench.openmmlab.measuring import Measured
from bench.protocols import load_protocol
from bench.rehearsal import Rehearsal, Rehearsed, scaled
from bench.report import rehearsal_lines, rehearsal_rows

PROTOCOL = load_protocol("mini_voc_seg_fcn")  # 480 iterations of 4 images
MEASURED = Measured(
    batch=2,
    iteration_seconds=0.5,
    data_seconds=0.1,
    image_seconds=0.25,
    before_mib=1000.0,
    peak_mib=1500.0,
    fixed_mib=100.0,
    evaluation_mib=1200.0,
    weights_bytes=50 * 2**20,
    checkpoint_bytes=200 * 2**20,
)


def test_a_smaller_batch_is_scaled_to_the_full_one() -> None:
    found = scaled(MEASURED, PROTOCOL, images=720, device_mib=1800.0)
    assert found.extrapolated and found.iteration_seconds == 1.0
    assert found.training_hours == pytest.approx(480 / 3600) and found.evaluation_hours == 0.05
    assert found.memory_mib == 1000 + 100 + 2 * 400 and not found.fits
    assert found.disk_bytes == 50 * 2**20  # 480 s: no checkpoint
    slower = scaled(dataclasses.replace(MEASURED, iteration_seconds=1.0), PROTOCOL, 720, 1800.0)
    assert slower.disk_bytes == (50 + 2 * 200) * 2**20
    whole = scaled(dataclasses.replace(MEASURED, batch=4), PROTOCOL, 720, 1800.0)
    assert (whole.extrapolated, whole.memory_mib, whole.iteration_seconds, whole.fits) == (False, 1500.0, 0.5, True)
    eased = scaled(dataclasses.replace(MEASURED, batch=4, evaluation_mib=1700.0), PROTOCOL, 720, 1800.0)
    assert eased.memory_mib == 1700.0


def test_the_table_marks_what_was_extrapolated_and_what_does_not_fit() -> None:
    found = scaled(MEASURED, PROTOCOL, images=720, device_mib=1800.0)
    whole = scaled(dataclasses.replace(MEASURED, batch=4, peak_mib=1024.0), PROTOCOL, 720, 1800.0)
    shown = Rehearsal([found, whole], {"other": "it broke"}, ["probe"], seeds=3, free_bytes=10)
    first, second = rehearsal_rows(shown)
    assert first[:6] == ["mini_voc_seg_fcn", "4", "~1", "480", "~8 min", "3 min"]
    assert first[6:] == ["~1.9 GiB", "50 MiB", "extrapolated from a batch of 2; TOO LARGE: there are 1.8 GiB for it"]
    assert second[2] == "0.5" and second[6:] == ["1.2 GiB", "50 MiB", ""]
    lines = rehearsal_lines(shown)
    assert lines[0] == "other: FAILED: it broke"
    assert lines[1] == "all 6 runs, 3 of each, one after the other: 54 min; 300 MiB on the disk, without predictions"
    assert "the disk is too small: 0 MiB are free" in lines[2]
    assert lines[3].startswith("TOO LARGE: --batch N trains with fewer images")
    assert lines[4].endswith("probe") and lines[5] == "no result was stored"


def test_the_runs_of_a_sweep_count() -> None:
    """Five runs of 120 iterations of a second, beside two of 480 that are evaluated for three minutes."""
    found = scaled(MEASURED, load_protocol("fair_mini_voc_seg_fcn"), images=720, device_mib=1e6)
    shown = Rehearsal([found], {}, [], seeds=2, free_bytes=10**12)
    assert shown.hours * 3600 == pytest.approx(2 * (480 + 180) + 5 * 120)
    assert shown.disk_bytes == 7 * 50 * 2**20
    assert rehearsal_lines(shown)[0].startswith("all 7 runs, 2 of each and 5 of sweeps, one after the other: 32 min;")


def test_on_a_cpu_the_full_batch_is_measured_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = SimpleNamespace(dataset=SimpleNamespace(val_images=10))
    batches: list[int] = []

    def tried(found: Measured, device_mib: float) -> list[int]:
        batches.clear()

        def measure(run: Any, protocol: Any, batch: int) -> Measured:
            batches.append(batch)
            return found

        monkeypatch.setattr(rehearsal, "_measure", measure)
        rehearsal._measure_on_cpu(run, PROTOCOL, device_mib)
        return batches

    assert tried(MEASURED, 4000.0) == [2, 4]
    assert tried(MEASURED, 2000.0) == [2]  # 1,900 MiB are more than 80 % of it
    assert tried(dataclasses.replace(MEASURED, iteration_seconds=10.0), 4000.0) == [2]  # four iterations of 20 s


def test_a_gpu_that_is_too_small_is_told_from_a_small_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(run: Any, protocol: Any, batch: int) -> Measured:
        if batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return MEASURED

    monkeypatch.setattr(rehearsal, "_measure", measure)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    found = scaled(rehearsal._measure_on_gpu(None, PROTOCOL), PROTOCOL, 10, 1800.0)  # type: ignore[arg-type]
    assert found.extrapolated and not found.fits


def test_a_rehearsal_measures_and_stores_no_result(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_process(runs: Any, *, execute: Any, **_: Any) -> list[Outcome[Any]]:
        for run in runs:
            run.folder.mkdir(parents=True)
            execute(run, torch.get_num_threads())
        return [Outcome(run, 0.0, None) for run in runs]

    monkeypatch.setattr(rehearsal, "run_all", in_process)
    file, work = write_protocol(tmp_path), tmp_path / "work"
    line = ["submit", "random:resnet18", "--name", "x", "--data", str(tiny_data), "--work", str(work), "--rehearse"]
    assert command([*line, "--protocol", str(file)]) == 0
    said = capsys.readouterr().out
    assert "my_seg" in said and "no result was stored" in said and "all 3 runs, 3 of each" in said
    assert not list((work / "results").iterdir()) and not list(work.rglob("weights.safetensors"))
    found = rehearsal._read(SimpleNamespace(folder=work / "rehearsals" / "my_seg"))  # type: ignore[arg-type]
    assert (found.batch, found.measured_batch, found.iterations, found.images) == (2, 2, 2, 4)
    assert found.iteration_seconds > 0 and found.image_seconds > 0 and found.fits
    assert 20 * 2**20 < found.disk_bytes < 60 * 2**20  # of a ResNet-18 in float16, and a head


def test_missing_data_are_named_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["submit", "random:resnet18", "--name", "x", "--data", str(tmp_path), "--work", str(tmp_path / "work")]
    assert command([*line, "--rehearse"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "voc2012_det cannot be used, so these are not rehearsed: mini_voc_det_frcnn_fpn no VOCdevkit/VOC2012" in said
    assert "coco2017 cannot be used" in said and "annotations/instances_{train,val}2017.json" in said
    assert not (tmp_path / "work").exists()


def test_rehearsed_values_survive_their_file() -> None:
    found = scaled(MEASURED, PROTOCOL, images=720, device_mib=1800.0)
    assert Rehearsed(**dataclasses.asdict(found)) == found
