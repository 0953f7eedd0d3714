"""Without the OpenMMLab packages everything but fine-tuning works; the lock in the package adds what it needs."""

import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from bench import fine_tuning
from bench.cli import run
from bench.fine_tuning import DISTRIBUTIONS, LOCK
from bench.protocol_text import as_python
from bench.protocols import load_protocol

ROOT = Path(__file__).parents[2]
REPLACED = {"imaug", "opencv-python"}
"""What the OpenMMLab packages ask for and nobody needs: see `requirements.lock`."""


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", Requirement(requirement).name).lower()


def locked(file: Path) -> dict[str, str]:
    """The lock's line for each package."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return {name_of(line): line for line in lines}


def closure(names: Iterable[str]) -> set[str]:
    """The packages, and all that they require here, by the metadata of what is installed."""
    found, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name in found or name in REPLACED:
            continue
        found.add(name)
        required = map(Requirement, distribution(name).requires or ())
        waiting += [name_of(str(one)) for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def base() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [name_of(requirement) for requirement in project["dependencies"]]


def test_the_lock_of_fine_tuning_is_what_the_whole_lock_has_beyond_the_base() -> None:
    whole = locked(ROOT / "requirements.lock")
    added = sorted(closure(DISTRIBUTIONS.values()) - closure(base()))
    expected = "\n".join(whole[name] for name in added)
    text = "\n".join(line for line in LOCK.read_text().splitlines() if not line.startswith("#"))
    assert text == expected, f"renew the lines of {LOCK}:\n{expected}"


def test_the_base_has_one_opencv_and_nothing_of_openmmlab() -> None:
    names = closure(base())
    assert not names & set(DISTRIBUTIONS.values())
    assert [name for name in names if name.startswith("opencv")] == ["opencv-python-headless"]
    assert not [name for name in locked(LOCK) if name.startswith("opencv")]


@pytest.fixture
def without_openmmlab(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the packages are not installed, for whoever asks before importing them."""
    monkeypatch.setattr(fine_tuning, "missing", lambda: list(DISTRIBUTIONS.values()))


@pytest.mark.parametrize(
    "line",
    [
        "submit random:resnet18 --name x --data .",
        "submit random:resnet18 --name x --data . --rehearse",
        "compare moco-v2-mini --images images --data . --track mini",
        "audit computed.py",
        "demo",
    ],
)
def test_what_fine_tunes_says_in_two_lines_what_to_install(
    line: str,
    without_openmmlab: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("computed.py").write_text("model = dict(depth=25 * 2)\n")
    Path("images").mkdir()
    Image.new("RGB", (8, 8)).save("images/a.png")
    assert run(line.split()) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ") and "not installed (onedl-mmengine, " in first
    assert second == f"pip install --no-deps -r {LOCK}"
    assert not Path("demo-work").exists()


def test_doctor_prints_the_line_that_adds_fine_tuning(
    without_openmmlab: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--work", str(tmp_path)]) == 0
    assert f"\nfine-tuning:\npip install --no-deps -r {LOCK}\n" in capsys.readouterr().out
    assert run(["doctor", "--json", "--work", str(tmp_path)]) == 0
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["fine-tuning"]["state"] == "note" and "detection operators" not in found


def test_doctor_names_packages_of_others_and_two_opencvs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, top in (("bench-it", "bench"), ("opencv-python", "cv2")):
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "top_level.txt").write_text(f"{top}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run(["doctor", "--json", "--work", str(tmp_path)]) == 1
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert (
        found["package bench"]["state"] == "missing" and found["package bench"]["command"] == "pip uninstall bench-it"
    )
    assert found["opencv"]["state"] == "note" and "opencv-python 1.0" in found["opencv"]["finding"]


WITHOUT = f"""
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        hidden = fullname.partition(".")[0] in {set(DISTRIBUTIONS)}
        return None if hidden else super().find_spec(fullname, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""
"""`sitecustomize.py`, which Python imports as it starts: in a command and in all its child processes."""

PROBE = "--data data --protocol frozen_voc_seg_linear --seeds 1"
COMMANDS = f"""
--help
methods
recipes
formats
protocols
protocols show mini_coco_mrcnn_fpn
doctor
data check data
pretrain moco-v2-mini --data data/pretrain/images --set epochs=1 --set batch_size=8 --set method.queue=32
export densebench-work/pretraining/moco-v2-mini-seed0
inspect densebench-work/pretraining/moco-v2-mini-seed0/export
submit densebench-work/pretraining/moco-v2-mini-seed0/export --name a --track frozen {PROBE}
compare moco-v2-mini --images data/pretrain/images --views 2 --batch 8 --set method.queue=32 {PROBE}
leaderboard --csv a.csv --markdown a.md --site page
pictures --data data --out pictures.html
plan --difference 1
audit trained.py --protocol mini_voc_seg_fcn
"""


@pytest.mark.slow
def test_all_but_fine_tuning_works_without_openmmlab(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WITHOUT)
    (tmp_path / "data").symlink_to(tiny_data)
    (tmp_path / "trained.py").write_text(as_python(load_protocol("mini_voc_seg_fcn")))
    script = "\n".join(
        [
            "import sys",
            "from bench.cli import run",
            f"failed = [line for line in {COMMANDS.strip().splitlines()!r} if run(line.split())]",
            f"loaded = sorted({set(DISTRIBUTIONS)} & sys.modules.keys())",
            "sys.exit(f'failed: {failed}, loaded: {loaded}' if failed or loaded else 0)",
        ]
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])}
    (tmp_path / "commands.py").write_text(f"if __name__ == '__main__':\n{textwrap.indent(script, '    ')}\n")
    done = subprocess.run(
        [sys.executable, "commands.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"pip install --no-deps -r {LOCK}" in done.stdout
