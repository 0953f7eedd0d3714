"""The command: help with an example for every verb, exit codes, one-line errors, JSON where a program would read it."""

import json
import re
from pathlib import Path

import pytest

from bench.cli import run
from bench.tracks import TRACKS

VERBS = [
    "demo",
    "methods",
    "recipes",
    "pretrain",
    "watch",
    "export",
    "norm-rescale",
    "inspect",
    "submit",
    "protocols",
    "data",
    "doctor",
    "leaderboard",
]


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"\b{verb}\b", printed) for verb in VERBS)


@pytest.mark.parametrize("verb", [*(v for v in VERBS if v != "data"), "protocols show", "data generate", "data check"])
def test_every_verb_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb.split(), "--help"]) == 0
    assert f"Example: densebench {verb}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "line", ["nonsense", "submit", "watch", "pretrain densecl-mini --data x --seed many", "inspect a --unknown-option"]
)
def test_a_wrong_command_is_exit_code_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pretrain densecl-mni --data .", "did you mean densecl-mini"),
        ("pretrain densecl-mini --data missing-folder", "missing-folder"),
        ("watch missing-run", "missing-run is not a pretraining run"),
        ("export missing-run", "missing-run"),
        ("norm-rescale missing-export other --literal", "missing-export"),
        ("norm-rescale missing-export other", "give images"),
        ("inspect missing.pth", "missing.pth"),
        ("submit missing.pth --name x --data .", "missing.pth"),
        ("submit random:resnet18 --name x --data . --track mni", "mini"),
        ("data check missing-root", "missing-root"),
        ("leaderboard --results missing-results", "missing-results"),
    ],
)
def test_work_that_fails_is_exit_code_1_and_a_short_message(
    line: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(line.split()) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    if not captured.out:
        assert captured.err.startswith("error: ") and words in captured.err
        assert captured.err.count("\n") <= 3
    else:
        assert words in captured.out


def test_methods_protocols_and_recipes_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "--json"]) == 0
    methods = json.loads(capsys.readouterr().out)
    assert {"moco-v2", "densecl"} <= {method["id"] for method in methods}
    assert {"unit", "partner", "loss", "second_network", "negatives", "fidelity", "paper"} <= set(methods[0])
    assert run(["recipes", "--json"]) == 0
    assert {"moco-v2-mini", "densecl-mini"} <= {recipe["name"] for recipe in json.loads(capsys.readouterr().out)}
    assert run(["protocols", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len({protocol["sha256"] for protocol in listed["protocols"]}) == len(listed["protocols"]) >= 4
    assert {protocol["track"] for protocol in listed["protocols"]} == {track["id"] for track in listed["tracks"]}
    assert all(track["purpose"] and track["rules"] and track["seeds"] for track in listed["tracks"])
    assert run(["protocols", "show", "mini_voc_seg_fcn", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["config"]["model"]["backbone"]["depth"] == "card:depth"
    assert shown["reference"] in listed["protocols"]


def test_protocols_come_with_the_rules_of_their_track(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["protocols"]) == 0
    printed = capsys.readouterr().out
    assert all(text in printed for track in TRACKS for text in (track.purpose, *track.rules))


def test_doctor_finds_this_environment_complete(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["doctor", "--json", "--work", str(tmp_path)]) == 0
    findings = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["torch"]["state"] == "ok"
    assert findings["detection operators"]["state"] == "ok"
    assert run(["doctor", "--data", str(tmp_path / "none"), "--work", str(tmp_path)]) == 1
    assert "missing" in capsys.readouterr().out
