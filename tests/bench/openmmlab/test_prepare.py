"""Importing the libraries: version ceilings, missing libraries, known and unknown noise."""

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.openmmlab import prepare
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
    with pytest.raises(BenchError, match="mmseg is not installed: run `pip install onedl-mmsegmentation`"):
        prepare.prepare_openmmlab()


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
