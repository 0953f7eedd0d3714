"""Importing the libraries: version ceilings, missing libraries, known and unknown noise."""

import importlib.util
import pickle
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch

from bench.doctor import diagnose
from bench.errors import BenchError
from bench.fine_tuning import installation
from bench.openmmlab import pickles, prepare
from bench.openmmlab.quiet import ignore_known_warnings, without_known_prints

prepare.prepare_openmmlab()

import mmcv  # noqa: E402


def test_an_original_wheel_that_refuses_a_newer_mmcv_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mm_with_ceiling.py").write_text(
        "import mmcv\n"
        "seen = mmcv.__version__\n"
        "assert seen == '2.1.0', f'MMCV=={seen} is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(mmcv, "__version__", "2.3.6")
    prepare._import_despite_version_ceiling("mm_with_ceiling")
    assert sys.modules.pop("mm_with_ceiling").seen == "2.1.0"
    assert mmcv.__version__ == "2.3.6"


def test_another_failed_assertion_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mm_broken.py").write_text("assert False, 'MMEngine==9 is used but incompatible.'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AssertionError, match="MMEngine==9"):
        prepare._import_despite_version_ceiling("mm_broken")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mmseg" else find_spec(name))
    monkeypatch.setattr(prepare, "_prepared", False)
    with pytest.raises(BenchError, match=r"not installed \(onedl-mmsegmentation\): add them by"):
        prepare.prepare_openmmlab()


def test_what_a_library_needs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mmdet.datasets", None)  # as if an import in it failed
    monkeypatch.setattr(prepare, "_prepared", False)
    with pytest.raises(BenchError, match=r"lack something \(.*mmdet.datasets.*\): complete them by\npip install"):
        prepare.prepare_openmmlab()
    (finding,) = [one for one in diagnose(tmp_path, None) if one.what == "detection operators"]
    assert finding.state == "missing" and "lack something" in finding.finding and finding.command == installation()


def test_only_known_lines_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), without_known_prints():
        print("Could not import OneDL. Skipping OneDL datasets.")
        print("Could not import something else")
        raise ValueError
    assert capsys.readouterr().out == "Could not import something else\n"


def test_only_known_warnings_are_ignored() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ignore_known_warnings()
        warnings.warn("faster_coco_eval is not installed, metrics will not be computed.", stacklevel=1)
        warnings.warn("``build_loss`` would be deprecated soon, please use X", stacklevel=1)
        warnings.warn("faster_coco_eval gave other figures", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["faster_coco_eval gave other figures"]


class Runs:
    """Its pickle writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled_by_the_libraries(tmp_path: Path) -> None:
    from mmdet.utils import dist_utils
    from mmengine.runner import checkpoint

    torch.save({"state_dict": {}, "meta": Runs(tmp_path / "ran")}, tmp_path / "evil.pth")
    message = torch.frombuffer(bytearray(pickle.dumps(Runs(tmp_path / "ran"))), dtype=torch.uint8)
    with pytest.raises(BenchError, match="_safe_torch_load would unpickle"):
        checkpoint.load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / "evil.pth"))
    with pytest.raises(BenchError, match="tensor2obj would unpickle"):
        dist_utils.tensor2obj(message)
    assert not (tmp_path / "ran").exists()


def test_the_libraries_unpickle_in_known_places_alone() -> None:
    """A new version that does so elsewhere must be looked at."""
    found = set()
    for package in ("mmcv", "mmdet", "mmengine", "mmseg"):
        (root,) = importlib.util.find_spec(package).submodule_search_locations
        for file in Path(root).rglob("*.py"):
            if re.search(r"pickle\.loads?\(|weights_only=False", file.read_text(encoding="utf-8")):
                found.add(file.relative_to(Path(root).parent).as_posix())
    assert found == {
        "mmdet/utils/dist_utils.py",  # closed
        "mmengine/runner/checkpoint.py",  # closed
        "mmengine/dist/dist.py",  # between the processes of one evaluation: ours are single
        "mmdet/evaluation/metrics/base_video_metric.py",  # the same, of videos
        "mmengine/dataset/base_dataset.py",  # what the process itself has pickled in memory
        "mmengine/fileio/handlers/pickle_handler.py",  # files that a config names; ours name JSON
        "mmseg/utils/io.py",  # of biomedical volumes
    }
    assert all(hasattr(importlib.import_module(module), name) for module, name in pickles.CLOSED)
