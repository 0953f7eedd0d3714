"""Which GPU a run gets, on a machine that pretends to have two: forked processes must be able to use theirs."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.gpus import Gpus, _look, check_device

PRETEND = """
import os
import torch

# The real function is still called: that call, whatever it answers, makes a process unfit to fork users of CUDA.
real = torch._C._cuda_getDeviceCount
visible = lambda count: min(count, len(torch.cuda._parse_visible_devices()))
torch._C._cuda_getDeviceCount = lambda: (real(), visible(int(os.environ["DRIVER_SEES"])))[1]
torch.cuda._raw_device_count_nvml = lambda: int(os.environ["NVML_SEES"])
torch.cuda._raw_device_uuid_nvml = lambda: ["GPU-a", "GPU-b"]
"""

PROGRAM = """
import json
import os
import sys
import time
from pathlib import Path

from bench import jobs
from leaderboard.records import DatasetReference

jobs.PRELOAD = ("pretend", *jobs.PRELOAD)
jobs.available_cores = lambda: 8


def look(run, threads):
    seen = {"started": time.time(), "threads": threads, "preloaded": "mmengine" in sys.modules}
    import torch
    from mmengine.device import get_device

    seen |= {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "device": get_device()}
    seen["bad fork"] = seen["preloaded"] and torch.cuda._is_in_bad_fork()
    (run.folder / "running").touch()
    while run.seed < together and len(list(run.folder.parent.glob("seed*/running"))) < together:
        time.sleep(0.01)
    seen["ended"] = time.time()
    (run.folder / "seen.json").write_text(json.dumps(seen))


folder, runs, together, processes = Path(sys.argv[1]), *(int(word) for word in sys.argv[2:5])
device = sys.argv[5] or None
if __name__ == "__main__":
    data = DatasetReference(name="d", fingerprint="0" * 64, train_images=1, val_images=1, classes=None)
    outcomes = jobs.run_all(
        [jobs.TransferRun("p", folder, folder, data, s, folder / f"seed{s}", folder, f"{s:016x}") for s in range(runs)],
        processes=processes or None,
        device=device,
        finished=lambda outcome: None,
        execute=look,
    )
    import torch

    assert not torch.cuda.is_initialized() and "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ
    assert [outcome.failure for outcome in outcomes] == [None] * runs, outcomes
"""


def look(
    folder: Path,
    runs: int,
    *,
    together: int,
    processes: int = 0,
    driver: int = 2,
    nvml: int = 2,
    visible: str | None,
    device: str = "",
) -> list[dict[str, Any]]:
    """What each of `runs` saw; the first `together` of them wait for each other. `nvml=-1`: there is none."""
    (folder / "pretend.py").write_text(PRETEND)
    (folder / "program.py").write_text(PROGRAM)
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    environment = os.environ | {"PYTHONPATH": path, "DRIVER_SEES": str(driver), "NVML_SEES": str(nvml)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    command = [sys.executable, str(folder / "program.py"), *map(str, (folder, runs, together, processes)), device]
    subprocess.run(command, env=environment, check=True, timeout=300)
    return [json.loads((folder / f"seed{seed}" / "seen.json").read_text()) for seed in range(runs)]


@pytest.mark.slow
@pytest.mark.parametrize(("visible", "names"), [(None, {"0", "1"}), ("GPU-b,GPU-a", {"GPU-a", "GPU-b"})])
def test_one_process_a_gpu_and_a_freed_one_is_given_again(tmp_path: Path, visible: str | None, names: set[str]) -> None:
    seen = look(tmp_path, 3, together=2, visible=visible)
    assert {run["gpu"] for run in seen[:2]} == names
    assert {run["device"] for run in seen} == {"cuda"}
    assert all(run["preloaded"] and not run["bad fork"] for run in seen)
    assert {run["threads"] for run in seen} == {4}
    (before,) = [run for run in seen[:2] if run["gpu"] == seen[2]["gpu"]]
    assert before["ended"] <= seen[2]["started"]


@pytest.mark.slow
def test_more_processes_share_the_gpus_evenly(tmp_path: Path) -> None:
    seen = look(tmp_path, 3, together=3, processes=3, visible=None)
    assert [run["gpu"] for run in seen] == ["0", "1", "0"]


@pytest.mark.slow
def test_gpus_that_are_hidden_are_not_used(tmp_path: Path) -> None:
    seen = look(tmp_path, 2, together=1, visible="1")
    assert [run["gpu"] for run in seen] == ["1", "1"]
    assert seen[0]["ended"] <= seen[1]["started"]


@pytest.mark.slow
@pytest.mark.parametrize(("device", "gpu", "kind"), [("cuda:1", "GPU-a", "cuda"), ("cpu", "", "cpu")])
def test_a_device_that_was_chosen_is_used_alone(tmp_path: Path, device: str, gpu: str, kind: str) -> None:
    seen = look(tmp_path, 2, together=1, visible="GPU-b,GPU-a", device=device)
    assert [(run["gpu"], run["device"]) for run in seen] == [(gpu, kind)] * 2


@pytest.mark.slow
def test_without_nvml_each_run_is_started_anew(tmp_path: Path) -> None:
    """There the libraries have asked the driver as they were imported: what is forked from them has no CUDA."""
    seen = look(tmp_path, 2, together=2, nvml=-1, visible=None)
    assert {run["gpu"] for run in seen} == {"0", "1"}
    assert not any(run["preloaded"] for run in seen)


@pytest.mark.slow
@pytest.mark.parametrize(("nvml", "preloaded"), [(-1, True), (2, False)], ids=["no GPU", "a driver that is too old"])
def test_without_a_usable_gpu_runs_use_the_cpu(tmp_path: Path, nvml: int, preloaded: bool) -> None:
    (run,) = look(tmp_path, 1, together=1, driver=0, nvml=nvml, visible=None)
    assert (run["gpu"], run["device"], run["preloaded"], run["threads"]) == (None, "cpu", preloaded, 2)


def test_a_device_among_those_that_there_are() -> None:
    two = Gpus(("GPU-b", "GPU-a"), forks=True)
    assert two.on(None) == two.on("cuda") == two
    assert two.on("cuda:1") == Gpus(("GPU-a",), forks=True)
    assert two.on("cpu") == Gpus((), forks=False)
    with pytest.raises(BenchError, match="device cuda:2 does not exist: PyTorch finds cuda:0, cuda:1 here"):
        two.on("cuda:2")
    none = Gpus((), forks=True)
    assert none.on(None) == none.on("cpu") == none
    for name in ("cuda", "cuda:0"):
        with pytest.raises(BenchError, match=f"device {name} does not exist: PyTorch finds no GPU here"):
            none.on(name)


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:", "cuda:-1", "cuda:0,1", "CPU", ""])
def test_what_names_no_device(name: str) -> None:
    with pytest.raises(BenchError, match="use cuda, cuda:N or cpu"):
        check_device(name)
    for good in (None, "cpu", "cuda", "cuda:12"):
        check_device(good)


def test_nobody_waits_for_the_answer_any_more() -> None:
    """The command was stopped while its fork server started."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    receiver.close()
    _look(sender)
