"""Adapters for services that show a run's losses, with modules in the place of their clients."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import pytest

from bench.cli import run as command
from bench.errors import BenchError
from bench.openmmlab.loss_log import LOSSES, LossLog
from bench.openmmlab.trackers import Tracker, TrackerName

NAMES: tuple[TrackerName, ...] = get_args(TrackerName)


class Client:
    """Stands in for a client's module, and keeps what it is told."""

    def __init__(self) -> None:
        self.begun: dict[str, Any] = {}
        self.sent: list[tuple[int, dict[str, float]]] = []
        self.finished = 0
        self.broken = False

    def init(self, **options: Any) -> Any:
        if self.broken:
            raise RuntimeError("no API key\nat all")
        self.begun = options
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, values: dict[str, float], *, step: int) -> None:
        if self.broken:
            raise ConnectionError("the service is gone")
        self.sent.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> TrackerName:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def client(name: TrackerName, monkeypatch: pytest.MonkeyPatch) -> Client:
    found, module = Client(), ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.init = found.init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    return found


def tracker(name: TrackerName) -> Tracker:
    return Tracker(name, "moco-voc-seed0", "0123456789abcdef", {"seed": 0})


def test_it_gets_every_loss_and_rate(name: TrackerName, client: Client, tmp_path: Path) -> None:
    log = LossLog(tmp_path / LOSSES, tracker=tracker(name))
    log.write(1, 0.5, {"loss": 2.0})
    log.write(2, 0.25, {"loss": 1.0})
    log.close()
    assert client.sent == [(1, {"lr": 0.5, "loss": 2.0}), (2, {"lr": 0.25, "loss": 1.0})] and client.finished == 1
    assert client.begun["project"] == "densebench" and client.begun["config"] == {"seed": 0}


def test_a_continued_run_is_found_again(name: TrackerName, client: Client) -> None:
    tracker(name)
    assert client.begun["resume"] == "allow" and "moco-voc-seed0" in client.begun["name"]
    assert "0123456789abcdef".startswith(client.begun["id"] if name == "wandb" else client.begun["name"][-8:])


def test_a_service_that_fails_stops_no_run(
    name: TrackerName, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = LossLog(tmp_path / LOSSES, tracker=tracker(name))
    client.broken = True
    log.write(1, 0.5, {"loss": 2.0})
    client.broken = False
    log.write(2, 0.5, {"loss": 2.0})
    log.close()
    assert capsys.readouterr().out == f"{name} gets no more values: the service is gone; training goes on\n"
    assert client.sent == [] and (tmp_path / LOSSES).read_text().count("\n") == 3


def test_what_cannot_start_is_said(name: TrackerName, client: Client) -> None:
    client.broken = True
    with pytest.raises(BenchError, match=f"{name} cannot start: no API key; "):
        tracker(name)


def test_a_client_that_is_not_installed_is_named_before_the_work(
    name: TrackerName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.openmmlab.trackers.find_spec", lambda name: None)
    line = ["submit", "random:resnet18", "--name", "x", "--data", str(tmp_path), "--work", str(tmp_path / "work")]
    assert command([*line, "--tracker", name]) == 1
    assert f"{name} is not installed: pip install {name}" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
