"""A result is reproduced from what its run has left, or what keeps it from being reproduced is said."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from short_protocols import changed, short

from bench.cli import run as command
from bench.errors import BenchError
from bench.jobs import TransferRun, evaluate
from bench.openmmlab.checkpoints import CHECKPOINT
from bench.submit import plan_submission
from bench.verifying import verify
from leaderboard.checked import hashes_below, missing_files, needed_files, with_levels
from leaderboard.records import read_result_json
from leaderboard.store import ResultStore


def write_protocol(folder: Path) -> Path:
    """A file with two iterations of a mini protocol."""

    def rename(config: dict[str, Any]) -> None:
        config["protocol"] |= {"id": "my_seg", "track": "mine"}

    protocol = changed(short("mini_voc_seg_fcn"), rename)
    file = folder / "my_seg.py"
    file.write_text("".join(f"{name} = {value!r}\n" for name, value in protocol.config.items()))
    return file


@pytest.fixture(scope="module")
def executed(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TransferRun]:
    """The protocol's file and a run that has a result."""
    folder = tmp_path_factory.mktemp("verified")
    file = write_protocol(folder)
    plan = plan_submission(
        "random:resnet18", name="x", data=tiny_data, work=folder / "work", protocols=[str(file)], seeds=1
    )
    checkpoint = plan.todo[0].folder / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"of a run that was killed")
    evaluate(plan.todo[0], torch.get_num_threads())
    assert not checkpoint.exists()  # the result is stored
    return file, plan.todo[0]


def result_of(run: TransferRun) -> Path:
    result = ResultStore(run.results).find(run.key)
    assert result is not None
    return run.results / result.file_name


def arguments(executed: tuple[Path, TransferRun], tiny_data: Path) -> list[str]:
    file, run = executed
    return ["verify", str(result_of(run)), "--data", str(tiny_data), "--protocol", str(file)]


def test_stored_weights_reproduce_the_result(
    executed: tuple[Path, TransferRun], tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(executed[1].folder.rglob("*"))
    assert command([*arguments(executed, tiny_data), "--record", str(tmp_path)]) == 0
    result = read_result_json(result_of(executed[1]).read_bytes())
    assert with_levels([result], tmp_path)[0][0].verification == "re-run"
    assert {"losses.csv", "weights.safetensors"} < needed_files(result).keys()
    assert missing_files(result, hashes_below(executed[1].results.parent)) == []
    said = capsys.readouterr().out
    assert "reproduced: all 3 metrics are exactly the result's" in said
    assert "weights.safetensors was evaluated again" in said
    assert sorted(executed[1].folder.rglob("*")) == before


def test_other_weights_do_not(
    executed: tuple[Path, TransferRun], tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = executed
    work = tmp_path / "work"
    shutil.copytree(run.results.parent, work)
    weights = work / run.folder.relative_to(run.results.parent) / "weights.safetensors"
    state = safetensors.torch.load_file(weights)
    safetensors.torch.save_file({name: tensor.flip(0) for name, tensor in state.items()}, weights)
    options = ["--work", str(work), "--json", "--record", str(tmp_path)]
    assert command([*arguments(executed, tiny_data), *options]) == 1
    assert not (tmp_path / "checked").exists()
    found = json.loads(capsys.readouterr().out)
    assert not found["reproduced"] and any(line.startswith("mIoU: ") for line in found["differences"])
    weights.unlink()
    with pytest.raises(BenchError, match=r"weights\.safetensors is missing"):
        verify(result_of(run), data=tiny_data, work=work, protocol=str(file))


def test_other_inputs_are_refused(executed: tuple[Path, TransferRun], tiny_data: Path, tmp_path: Path) -> None:
    file, run = executed
    result = result_of(run)
    with pytest.raises(BenchError, match="is another protocol now"):
        verify(result, data=tiny_data, protocol="mini_voc_seg_fcn")
    with pytest.raises(BenchError, match="there is no protocol 'my_seg'"):
        verify(result, data=tiny_data)
    with pytest.raises(BenchError, match="--work DIR"):
        verify(result, data=tiny_data, work=tmp_path, protocol=str(file))
    with pytest.raises(BenchError, match="cannot read the result"):
        verify(tmp_path / "none.json", data=tiny_data)
    data = tmp_path / "data"
    shutil.copytree(tiny_data / "VOCdevkit", data / "VOCdevkit")
    lists = data / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
    lists.write_text("".join(lists.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(BenchError, match="is not what the result was measured on"):
        verify(result, data=data, protocol=str(file))


def test_a_failed_run_has_nothing_to_verify(
    executed: tuple[Path, TransferRun], tiny_data: Path, tmp_path: Path
) -> None:
    result = read_result_json(result_of(executed[1]).read_bytes())
    failed = result.model_copy(update={"status": "failed", "failure": "diverged", "metrics": {}, "standard_errors": {}})
    (tmp_path / "failed.json").write_text(failed.to_json())
    with pytest.raises(BenchError, match="has no weights to evaluate"):
        verify(tmp_path / "failed.json", data=tiny_data)


def test_a_probe_is_run_again(tiny_data: Path, tmp_path: Path) -> None:
    plan = plan_submission(
        "random:resnet18:0", name="x", data=tiny_data, work=tmp_path, track="frozen", protocols=["frozen_voc_seg_knn"]
    )
    evaluate(plan.todo[0], torch.get_num_threads())
    found = verify(result_of(plan.todo[0]), data=tiny_data)
    assert found.reproduced and found.how == "the probe was run again"
    assert found.metrics == found.result.metrics
