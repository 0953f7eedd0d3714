"""The GPU's command runs whole on a CPU; parts that crash, hang or fail stop no other and are told."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.benchmarks.gpu_check import device_tests, estimates, protocols
from bench.benchmarks.gpu_check.__main__ import check
from bench.benchmarks.gpu_check.images import enlarged, repeated
from bench.benchmarks.gpu_check.methods import _recipes
from bench.benchmarks.gpu_check.parts import PARTS, TOTAL, Part
from bench.benchmarks.gpu_check.task import Options, SkippedError, Task
from bench.openmmlab.measuring import Measured
from bench.protocols import load_protocol
from bench.rehearsal import scaled
from pretrain.data.batches import open_images
from pretrain.methods import METHODS, all_recipes

HERE = Path(__file__).parent


def options(folder: Path, **changes: Any) -> Options:
    values: dict[str, Any] = {"data": folder, "device": "cpu", "tiny": False, "workers": 0, "transfer_data": None}
    return Options(**values | {"report": folder / "gpu_check.json"} | changes)


def task(folder: Path, **changes: Any) -> Task:
    return Task(options(folder, **changes), folder / "found.json", 60.0, lambda line: None)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(20):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / f"{k:02d}.jpg")
    return folder


@pytest.mark.slow
def test_the_whole_command_on_a_cpu(pictures: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.benchmarks.gpu_check", "--data", pictures, "--out", tmp_path / "out"]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run([*command, "--tiny", "--device", "cpu"], capture_output=True, text=True, env=threads)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"gpu_check.json", "gpu_check.log"}
    report = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert report["finished"] and list(report["parts"]) == [part.name for part in PARTS if not part.asked]
    states = {name: found["state"] for name, found in report["parts"].items()}
    assert states.pop("tests") in ("passed", "skipped") and set(states.values()) == {"passed"}
    for found in report["parts"].values():
        assert all(f"  {line}\n" in ended.stdout for line in found["lines"])
    found = {name: part["result"] for name, part in report["parts"].items()}
    assert found["throughput"]["step_images_per_second"] > 0 and found["throughput"]["loader_images_per_second"] > 0
    assert set(found["throughput"]["end_to_end"]) == {"plain", "prefetch"}
    rows = found["methods"]["rows"]
    assert [row["method"] for row in rows[:3]] == ["MoCoConfig", "DenseCLConfig", "MoCHiConfig"]
    assert {"ours", "device", "pillow"} <= set(found["pipelines"]["median"])
    assert [run["iterations"] for run in found["transfer"]["first"] + found["transfer"]["again"]] == [2, 2]
    assert set(found["transfer"]["difference_of_the_repeated_run"].values()) == {0.0}
    assert "densecl-imagenet-200ep" in [one["recipe"] for one in found["estimates"]["hours"]]
    assert found["compile"]["compile_seconds"] > 0


def part(name: str, budget: float = 60.0, takes_rest: bool = False) -> Part:
    return Part(name, "for a test", budget, f"gpu_check_parts:{name}", takes_rest)


def test_a_part_that_dies_hangs_or_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    given, log = options(tmp_path), tmp_path / "log"
    names = ("dies", "raises", "fails", "skips", "passes")
    assert not check((*map(part, names), part("hangs", budget=12.0)), given, log)
    report = json.loads(given.report.read_text())["parts"]
    assert {name: found["state"] for name, found in report.items()} == {
        "dies": "failed",
        "raises": "failed",
        "fails": "failed",
        "skips": "skipped",
        "passes": "passed",
        "hangs": "ended",
    }
    assert report["dies"]["result"] == {"before": 1} and "SIGABRT" in report["dies"]["reason"]
    assert "last words" in report["dies"]["reason"]
    assert report["raises"]["reason"] == "ZeroDivisionError: by what?" and "Traceback" in log.read_text()
    assert (report["fails"]["reason"], report["skips"]["reason"]) == ("unequal", "nothing to do")
    assert report["hangs"]["lines"] == ["begun"] and report["hangs"]["result"]["child"] > 0
    assert "not done within its 12 s" in report["hangs"]["reason"]
    child = Path(f"/proc/{report['hangs']['result']['child']}/stat")
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not child.exists() or child.read_text().split()[2] == "Z", "a process of an ended part lives on"
    shown = capsys.readouterr().out
    assert "  begun\n" in shown and "printed by a library" not in shown and "printed by a library" in log.read_text()
    assert check((part("passes"),), given, log), "what another part did does not count"
    assert "dies" in json.loads(given.report.read_text())["parts"]


def test_the_last_part_may_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    given = options(tmp_path)
    assert check((part("hangs", budget=5.0, takes_rest=True),), given, tmp_path / "log")
    assert json.loads(given.report.read_text())["parts"]["hangs"]["state"] == "ended"


def test_budgets_fit_into_one_call() -> None:
    usual = [part for part in PARTS if not part.asked]
    assert TOTAL <= 470 and [part.takes_rest for part in usual] == [False] * (len(usual) - 1) + [True]


def test_every_method_is_compared(tmp_path: Path) -> None:
    recipes = _recipes(task(tmp_path, tiny=False))
    assert [recipe.name for recipe in recipes[:3]] == [
        "moco-v2-imagenet-200ep",
        "densecl-imagenet-200ep",
        "mochi-imagenet-200ep",
    ]
    without = {"sfc", "maskdistill"}  # the paper's network is a ResNet-18; nothing is trained
    assert len(recipes) == sum(method.info.id not in without for method in METHODS)
    assert {recipe.backbone for recipe in recipes} == {"resnet50"}


def test_hours_follow_from_the_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(method: str, recipe: str, ratio: float, sizes: list[int]) -> dict[str, Any]:
        return {
            "method": method,
            "recipe": recipe,
            "batch": 128,
            "sizes": sizes,
            "time_over_base": {"median": ratio, "low": ratio, "high": ratio},
        }

    rows = [
        measured("MoCoConfig", "moco-v2-imagenet-200ep", 1.0, [224, 224]),
        measured("DenseCLConfig", "densecl-mini", 1.5, [112, 112]),
        measured("SwAVConfig", "swav-imagenet-200ep", 2.0, [224] * 4),
    ]
    speed = {"step_images_per_second": 1000.0, "loader_images_per_second": 1100.0}
    parts = {"throughput": {"result": speed}, "methods": {"result": {"rows": rows}}}
    (tmp_path / "gpu_check.json").write_text(json.dumps({"parts": parts}))
    chosen = ("moco-v2-i", "densecl-coco", "densecl-mini", "swav-i", "dino-vit-small")
    known = {name: recipe for name, recipe in all_recipes().items() if name.startswith(chosen)}
    monkeypatch.setattr(estimates, "all_recipes", lambda: known)
    estimates.estimates(task(tmp_path, tiny=False))
    found = json.loads((tmp_path / "found.json").read_text())["result"]
    hours = {one["recipe"]: one for one in found["hours"]}
    epoch = 1_281_167 / 1000 / 3600
    assert hours["moco-v2-imagenet-200ep"]["gpu_hours"] == pytest.approx(200 * epoch)
    assert hours["moco-v2-imagenet-800ep"]["gpu_hours"] == pytest.approx(800 * epoch)
    coco = hours["densecl-coco-800ep"]  # its views have four times the pixels of those that were measured
    assert coco["scaled_views"] == 4 and coco["gpu_hours"] == pytest.approx(800 * 118_287 / 1000 / 3600 * 1.5 * 4)
    swav = hours["swav-imagenet-200ep"]
    assert swav["bound_by"] == "step" and swav["loader_hours"] == pytest.approx(200 * epoch * 1000 / 1100 * 2)
    assert found["left_out"] == {"dino-vit-small-imagenet-100ep": "its method was not measured"}
    (tmp_path / "gpu_check.json").unlink()
    with pytest.raises(SkippedError, match="`throughput` and `methods`"):
        estimates.estimates(task(tmp_path))


@pytest.mark.slow
def test_two_protocols_of_track_paper_are_measured(tmp_path: Path) -> None:
    protocols.protocols(task(tmp_path, tiny=True))
    found = json.loads((tmp_path / "found.json").read_text())
    rows = found["result"]["rows"]
    assert [row["protocol"] for row in rows] == list(protocols.MEASURED) and len(found["lines"]) == 2
    for row in rows:
        assert row["extrapolated"] and (row["measured_batch"], row["batch"]) == (2, 16)
        assert row["images_per_second"] > 0 and 0 <= row["data_wait"] < 1 and row["memory_mib"] > 100


def test_hours_of_a_protocol_follow_from_its_iterations() -> None:
    measured = Measured(
        batch=16, iteration_seconds=0.5, data_seconds=0.05, image_seconds=0.1, before_mib=100.0, peak_mib=2048.0,
        fixed_mib=50.0, evaluation_mib=1024.0, weights_bytes=1, checkpoint_bytes=1,
    )  # fmt: skip
    found = scaled(measured, load_protocol("paper_voc0712_det_c4_24k"), 4_952, 80_000.0)
    row = protocols._figures(measured, found)
    assert row["images_per_second"] == 32.0 and row["data_wait"] == 0.1
    assert row["gpu_hours"] == pytest.approx((24_000 * 0.5 + 4_952 * 0.1) / 3600)
    assert protocols._in_words(row) == (
        "paper_voc0712_det_c4_24k: 32 images/s (batch 16), 10% of the time waiting for data, 2.0 GiB; "
        "the whole run: 3.5 GPU-hours (0.14 of them evaluation)"
    )
    small = dataclasses.replace(measured, batch=2)
    shown = protocols._in_words(protocols._figures(small, scaled(small, load_protocol(row["protocol"]), 1, 80_000.0)))
    assert "~4 images/s (batch 2 of 16)" in shown and "~26.7 GPU-hours" in shown


def test_images_are_enlarged_and_repeated(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    large = enlarged(open_images(pictures), tmp_path / "large", count=5, longer_side=96)
    assert len(large) == 5 and tuple(large.decode(4).shape) == (3, 80, 96)
    assert large.decode(0).float().mean() == pytest.approx(open_images(pictures).decode(0).float().mean(), abs=3)
    many = repeated(large, 12)
    assert len(many) == 15 and {many.name(k) for k in range(15)} == {large.name(k) for k in range(5)}


def test_a_test_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest runs in a process of its own here: it is not made to run within itself."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--cuda', action='store_true')\n"
        "def pytest_configure(config):\n    config.addinivalue_line('markers', 'cuda: for this test')\n"
    )
    (tests / "test_some.py").write_text(
        f"import pytest\n@pytest.{device_tests.MARK}\ndef test_good():\n    pass\n"
        f"@pytest.{device_tests.MARK}\ndef test_bad():\n    assert 1 == 2, 'far off'\n"
        "def test_other():\n    raise ValueError\n"
    )
    program = (
        "from pathlib import Path; from bench.benchmarks.gpu_check import device_tests as d\n"
        "from bench.benchmarks.gpu_check.task import Options, Task\n"
        f"d.ROOT = Path({str(tmp_path)!r}); options = Options(d.ROOT, 'cuda', False, 0, None, d.ROOT / 'r')\n"
        "try:\n    d.tests(Task(options, d.ROOT / 'found.json', 60, print))\nexcept d.CheckFailedError as error:\n"
        "    print('FAILED', error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=HERE.parents[2])
    assert "FAILED 1 tests failed" in ended.stdout and "1 passed, 1 failed, 0 skipped" in ended.stdout, ended.stderr
    found = json.loads((tmp_path / "found.json").read_text())["result"]
    assert (found["collected"], found["passed"], found["running"]) == (2, 1, None)
    assert found["failed"] == {"tests/test_some.py::test_bad": "AssertionError: far off\nassert 1 == 2"}
    monkeypatch.setattr(device_tests, "ROOT", tmp_path / "installed")
    with pytest.raises(SkippedError, match="in a checkout"):
        device_tests.tests(task(tmp_path))


def test_options_travel_as_text(tmp_path: Path) -> None:
    for given in (options(tmp_path), options(tmp_path, transfer_data=tmp_path, workers=None)):
        assert Options.from_json(given.to_json()) == given
