"""The command line: help with examples, exit codes, one-line errors, JSON where a program would read it."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.text import Text

from bench.cli import run, stop_once
from bench.cli.common import app, print_table
from bench.tracks import TRACKS
from leaderboard.base.errors import Interrupted
from pretrain.methods import all_recipes
from pretrain.recipes import Recipe, override
from pretrain.run.folder import read_checkpoint, read_record

COMMANDS = [name for name in app if not name.startswith("-")]


def test_help_names_every_command_in_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    printed = capsys.readouterr().out
    titles = re.findall(r"╭─ (.*?) ─", printed)
    assert titles == ["Pretrain", "Evaluate", "Compare and report", "Data and tools", "Options"]
    assert len(COMMANDS) >= 19 and all(re.search(rf"│ {command} ", printed) for command in COMMANDS)


def test_the_version_is_that_of_the_installed_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == metadata.version("densebench") != "0.0.0"


@pytest.mark.parametrize(
    "command", [*(v for v in COMMANDS if v != "data"), "protocols show", "data generate", "data check"]
)
def test_every_command_shows_an_example_and_no_option_without_meaning(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Example: densebench {command}" in printed
    assert set(re.findall(r"--(?:no|empty)-[a-z-]+", printed)) <= {"--no-wait"}


def test_the_help_of_submit_names_every_track(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["submit", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    said = printed[printed.index("A list of protocols, seeds and rules:") :].partition("[default: mini]")[0]
    assert [track.id for track in TRACKS if not re.search(rf"\b{track.id}\b", said)] == []


@pytest.mark.parametrize(
    "line", ["nonsense", "submit", "watch", "pretrain densecl-mini --data x --seed many", "inspect a --unknown-option"]
)
def test_a_wrong_command_is_exit_code_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    assert "usage:" in capsys.readouterr().err


def test_what_is_missing_is_told_from_what_has_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "simclr-mini"]) == 2
    assert "--images is missing" in capsys.readouterr().err
    assert run(["compare", "simclr-mini", "--images"]) == 2
    assert "--images requires an argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pretrain densecl-mni --data .", "did you mean densecl-mini"),
        ("pretrain densecl-mini --data missing-folder", "missing-folder"),
        ("pretrain densecl-mini --data images --device cuda:1", "device cuda:1 does not exist"),
        ("pretrain densecl-mini --data images --device gpu", "'gpu' is not a device: use cuda, cuda:N or cpu"),
        ("pretrain densecl-mini --data images --threads 0", "--threads is 0"),
        ("watch missing-run", "there is no folder missing-run"),
        ("watch images/a.png", "images/a.png is a file: give the folder of a pretraining run"),
        ("export missing-run", "missing-run"),
        ("norm-rescale missing-export other --literal", "missing-export"),
        ("norm-rescale missing-export other", "give either --data IMAGES"),
        ("export images/a.png --format timm", "images/a.png is a file: give the folder of a pretraining run"),
        ("inspect missing.pth", "missing.pth"),
        ("submit missing.pth --name x --data .", "missing.pth"),
        ("submit random:resnet18 --name x --data . --track mni", "mini"),
        ("submit random:resnet18 --name x --data . --device gpu", "'gpu' is not a device: use cuda, cuda:N or cpu"),
        ("submit random:resnet18 --name x --data . --threads 0", "--threads is 0"),
        ("data check missing-root", "missing-root"),
        ("leaderboard --results missing-results", "missing-results"),
    ],
)
def test_work_that_fails_is_exit_code_1_and_a_short_message(
    line: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Image.new("RGB", (8, 8)).save("images/a.png")
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


@pytest.mark.parametrize("recipe", all_recipes().values(), ids=lambda recipe: recipe.name)
def test_a_recipe_is_shown_whole(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", recipe.name]) == 0
    head, settings = capsys.readouterr().out.split("\n\n", 1)
    assert head.splitlines()[0] == recipe.name
    assert all(text in head for text in (recipe.data, recipe.paper, recipe.expected, recipe.cost))
    shown = [line.strip() for line in settings.splitlines()[1:]]
    assert override(recipe, shown) == recipe
    assert run(["recipes", recipe.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(recipe.to_dict()))


def test_the_recipes_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "densecl", "--json"]) == 0
    names = [recipe["name"] for recipe in json.loads(capsys.readouterr().out)]
    assert len(names) >= 2 and all(name.startswith("densecl-") for name in names)
    assert run(["recipes", "densecl"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names) and "moco-v2-mini" not in printed
    assert run(["recipes", "densecl-mni"]) == 1
    assert "did you mean densecl-mini" in capsys.readouterr().err


def test_protocols_come_with_the_rules_of_their_track(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["protocols"]) == 0
    printed = capsys.readouterr().out
    assert all(text in printed for track in TRACKS for text in (track.purpose, *track.rules))
    assert all(name in printed for track in TRACKS for name in (*track.protocols, *track.further))


def test_doctor_finds_this_environment_complete(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["doctor", "--json", "--work", str(tmp_path)]) == 0
    findings = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["torch"]["state"] == "ok"
    assert findings["detection operators"]["state"] == "ok"
    assert run(["doctor", "--data", str(tmp_path / "none"), "--work", str(tmp_path)]) == 1
    assert "missing" in capsys.readouterr().out


def raising(error: BaseException):
    def command(*arguments: object, **options: object) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ZeroDivisionError("none\x1b[2J\nleft"), 1, "densebench has a fault: "),
        (RecursionError("deep"), 1, "Report this line and the command"),
        (MemoryError(), 1, "error: the memory is full"),
        (OSError(errno.ENOSPC, "No space left on device", "x.json"), 1, "error: the disk is full (x.json): free space"),
        (OSError(errno.EACCES, "Permission denied", "x.json"), 1, "error: Permission denied: x.json"),
        (KeyboardInterrupt(), 130, "stopped: repeat the command to continue"),
        (Interrupted("stopped: 3 of 4 are kept", signal.SIGTERM), 143, "stopped: 3 of 4 are kept"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_the_last_handler_says_it_in_a_few_lines(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.tracks.find_track", raising(error))
    monkeypatch.setattr("bench.submit.find_track", raising(error))
    line = ["submit", "random:resnet18", "--name", "x", "--data", "."]
    assert run(line) == code
    printed = capsys.readouterr().err
    assert words in printed and "Traceback" not in printed
    assert len(printed.splitlines()) <= 3 and "\x1b" not in printed
    for debug in (["--debug"], []):
        assert run([*line, *debug]) == code
        assert "Traceback" in capsys.readouterr().err
        monkeypatch.setenv("DENSEBENCH_DEBUG", "1")


def test_a_signal_is_raised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it is ignored
    try:
        stop_once()
        with pytest.raises(Interrupted) as stopped:
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # while it cleans up
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped.value.exit_code == 143


def test_a_table_in_a_file_has_whole_names(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{'a_long_name_of_a_protocol_' * 10}{end}" for end in "ab"]
    print_table("Protocols", ["protocol", "title"], [[name, "word " * 60] for name in names])
    printed = capsys.readouterr().out
    assert all(name in printed for name in names) and "…" not in printed
    assert len(printed.splitlines()) == 5


def test_square_brackets_in_a_table_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("[/a]", ["[/b]"], [["d [old]"], ["[/c]"], [Text("[/d]", style="green")], [":smile:"]])
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("[/a]", "[/b]", "d [old]", "[/c]", "[/d]", ":smile:"))


def test_doctor_says_a_folder_s_name_with_its_brackets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("d [old]", "d [/old]"):
        assert run(["doctor", "--data", str(tmp_path / name), "--work", str(tmp_path)]) == 1
        captured = capsys.readouterr()
        assert name in captured.out and not captured.err


@pytest.mark.slow
def test_a_real_ctrl_c_in_a_real_process(tmp_path: Path) -> None:
    """Pretraining saves its step and exits with 130; --resume goes on from there."""
    method = Path(__file__).parents[2] / "docs/examples/my_method.py"
    images = tmp_path / "images"
    images.mkdir()
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{index}.png")
    # The shell that started pytest in the background may have it ignore SIGINT.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from bench.cli import main; main()"
    )
    out = tmp_path / "run"
    line = ["pretrain", f"{method}:mine-mini", "--data", str(images), "--out", str(out), "--set", "epochs=100000"]
    command = subprocess.Popen([sys.executable, "-c", start, *line], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 180
    while not (out / "log.jsonl").is_file() or not (out / "log.jsonl").read_text():
        assert command.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=180)
    assert command.returncode == 130, errors
    step = read_checkpoint(out / "checkpoint.pt", read_record(out))["step"]
    assert f"stopped after step {step} of " in errors and "continue with --resume" in errors
    assert "Traceback" not in errors


def test_a_reader_that_ends_is_no_error(tmp_path: Path) -> None:
    """As in `densebench protocols show ID | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "densebench", "protocols", "show", "mini_voc_seg_fcn"]
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
