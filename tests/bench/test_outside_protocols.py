"""Protocols from outside: files and installed packages, shown, checked and submitted like DenseBench's own."""

import sys
from pathlib import Path

import pytest
from fake_fine_tuning import instant

from bench.cli import run as command
from bench.errors import BenchError
from bench.protocol_text import as_python
from bench.protocols import (
    Protocol,
    TrainingPlan,
    all_protocols,
    installed_ids,
    is_outside,
    load_protocol,
    read_protocol,
)
from bench.submit import SubmissionPlan, plan_submission, submit
from leaderboard.store import ResultStore


def own(change: str = "", **header: str) -> str:
    """The text of a complete protocol of one's own, made as a user would: from a built-in one."""
    text = as_python(load_protocol("mini_voc_seg_fcn"))
    for key, old in (("id", "mini_voc_seg_fcn"), ("track", "mini")):
        new = header.get(key, f"own-{key}")
        assert text.count(f'{key}="{old}"') == 1
        text = text.replace(f'{key}="{old}"', f'{key}="{new}"')
    return text + change


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    file = tmp_path / "my_protocol.py"
    file.write_text(own())
    return file


def plan(data: Path, work: Path, *protocols: str, **more) -> SubmissionPlan:
    return plan_submission("random:resnet18", name="random", data=data, work=work, protocols=protocols, **more)


@pytest.mark.parametrize("protocol", all_protocols(), ids=lambda protocol: protocol.id)
def test_what_is_shown_is_the_protocol(protocol: Protocol, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["protocols", "show", protocol.id]) == 0
    shown = capsys.readouterr().out
    assert protocol.sha256 in shown and "import" not in shown
    assert ('"card:mean"' in shown) == isinstance(protocol.plan, TrainingPlan)
    assert max(map(len, shown.splitlines())) <= 120
    (tmp_path / "shown.py").write_text(shown)
    again = read_protocol(tmp_path / "shown.py")
    assert (again.sha256, again.docstring) == (protocol.sha256, protocol.docstring)
    assert dict(again.config) == dict(protocol.config)


def test_text_that_python_would_misread_survives(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        'r"""A \\d and \'\'\' inside."""\n' + own("\nodd = {'a b': 'x\"\\\\\\n', 'class': (1,), 'e': [], 'f': ({},)}\n")
    )
    odd = read_protocol(file)
    file.write_text(as_python(odd))
    again = read_protocol(file)
    assert (again.docstring, again.config["odd"]) == (odd.docstring, odd.config["odd"])


def test_every_seed_of_an_own_protocol(own_file: Path, tiny_data: Path, tmp_path: Path) -> None:
    planned = plan(tiny_data, tmp_path, str(own_file))
    submission = submit(planned, processes=2, execute=instant)
    assert not submission.failures
    results = list(ResultStore(tmp_path / "results"))
    assert sorted(result.seed for result in results) == [0, 1, 2]
    protocol = load_protocol(str(own_file))
    assert is_outside(protocol)
    assert {(r.protocol.id, r.protocol.track, r.protocol.sha256) for r in results} == {
        ("own-id", "own-track", protocol.sha256)
    }
    assert not plan(tiny_data, tmp_path, str(own_file)).todo


def test_own_and_built_in_protocols_together(
    own_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_file.parent)
    names = ("mini_voc_seg_fcn", "my_protocol.py", str(own_file))
    runs = plan(tiny_data, tmp_path, *names, seeds=1).todo
    assert [(run.protocol, run.protocol_file) for run in runs] == [("mini_voc_seg_fcn", None), ("own-id", own_file)]


def test_a_file_that_changes_after_the_start_gives_no_result(own_file: Path, tiny_data: Path, tmp_path: Path) -> None:
    planned = plan(tiny_data, tmp_path, str(own_file), seeds=1)
    own_file.write_text(own("\nparam_scheduler = []\n"))
    (outcome,) = submit(planned, processes=1, execute=instant).outcomes
    assert outcome.failure and "changed meanwhile: repeat the command" in outcome.failure
    assert not ResultStore(tmp_path / "results").keys()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (own(id="mini_voc_seg_fcn"), "the id 'mini_voc_seg_fcn' is that of a built-in protocol"),
        (own(track="mini"), "the track 'mini' is one of DenseBench's own"),
        (own().replace("\ntest_cfg =", "\n_test_cfg ="), "lacks test_cfg"),
        ("import os\n" + own(), "imports os"),
        ("raise RuntimeError('no')", "RuntimeError: no"),
    ],
)
def test_a_file_that_is_no_protocol_of_ones_own_is_refused(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(text)
    with pytest.raises(BenchError, match=words) as error:
        load_protocol(str(file))
    assert str(file) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["submit", "random:resnet18", "--name", "x", "--data", ".", "--protocol", str(tmp_path / "absent.py")]
    assert command(line) == 1
    assert "absent.py" in capsys.readouterr().err


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with four entry points: a module, a path, one that does not exist, one misnamed."""
    site = tmp_path / "site"
    (site / "their_protocols").mkdir(parents=True)
    (site / "their_protocols" / "__init__.py").write_text(
        "from pathlib import Path\nSECOND = Path(__file__).with_name('second.py')\n"
    )
    for name in ("first", "second"):
        (site / "their_protocols" / f"{name}.py").write_text(own(id=f"their_{name}"))
    (site / "their_protocols-1.0.dist-info").mkdir()
    (site / "their_protocols-1.0.dist-info" / "METADATA").write_text("Name: their-protocols\nVersion: 1.0\n")
    (site / "their_protocols-1.0.dist-info" / "entry_points.txt").write_text(
        "[densebench.protocols]\n"
        "their_first = their_protocols.first\n"
        "their_second = their_protocols:SECOND\n"
        "their_third = their_protocols.third\n"
        "their_fourth = their_protocols.first\n"
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "their_protocols", raising=False)  # of another test, whose folder is gone
    return site


def test_protocols_of_installed_packages(package: Path, tiny_data: Path, tmp_path: Path) -> None:
    assert installed_ids() == ["their_first", "their_fourth", "their_second", "their_third"]
    assert load_protocol("their_first").config_file == package / "their_protocols" / "first.py"
    assert load_protocol("their_second").config_file == package / "their_protocols" / "second.py"
    with pytest.raises(BenchError, match=r"'their_third': there is no module their_protocols\.third"):
        load_protocol("their_third")
    with pytest.raises(BenchError, match=r"calls itself 'their_first', its entry point 'their_fourth'"):
        load_protocol("their_fourth")
    submission = submit(plan(tiny_data, tmp_path, "their_second", seeds=1), processes=1, execute=instant)
    assert not submission.failures  # a run's process knows nothing of this test's path: it is given the file


def test_a_broken_package_hides_no_other_protocol(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["protocols"]) == 1
    captured = capsys.readouterr()
    assert all(name in captured.out for name in ("mini_voc_seg_fcn", "their_first", "their_second"))
    assert captured.err.count("problem: ") == 2
