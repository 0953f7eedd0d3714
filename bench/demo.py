"""The main job from end to end on generated data: what a newcomer watches first.

Every step is a command that the user can type; the demo prints it before it runs. A demo that was interrupted
continues where it stopped: its commands are told to stop, and each of them saves what it has done.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.fine_tuning import require_fine_tuning
from leaderboard.base.errors import Interrupted
from leaderboard.base.provenance import available_cores
from leaderboard.base.terminal import Console

RECIPES = {"simclr-mini": ("optimizer.lr=0.0075",), "pixpro-mini": ()}
"""What is pretrained, an image-level and a dense method, and its own settings: a rate that follows the batch."""
SHORT = ("epochs=6", "schedule.warmup_epochs=1", "batch_size=32", "method.view_size=64")
"""Settings of both, so that the whole demo takes minutes: many steps of few small images, in which these two learn."""
ARCHITECTURE = "resnet18"
PROBES = ("frozen_voc_seg_linear", "frozen_city_seg_linear")
TUNED = ("mini_voc_det_frcnn_fpn", "mini_city_seg_fcn")
"""Protocols that the demo runs, so that it takes minutes: `submit` without `--protocol` runs all."""
TUNED_RECIPE = "simclr-mini"
"""The one whose backbone is fine-tuned."""


def run_demo(work: Path, processes: int | None) -> int:
    """Pretrain two methods, submit them beside random initialisation, and rank them. Returns the exit code.

    Raises:
        BenchError: a command failed; its own message has been printed. Or what fine-tuning needs is not installed.
        Interrupted: it was stopped.
    """
    require_fine_tuning("the demo, which fine-tunes,")
    again = shlex.join(["densebench", "demo", "--work", str(work)])
    try:
        return _run_demo(work, processes)
    except BenchError as error:
        raise BenchError(f"{error}; repeat `{again}` to continue") from error
    except KeyboardInterrupt as stop:
        raise Interrupted.after(stop, f"stopped: `{again}` continues") from stop


def _run_demo(work: Path, processes: int | None) -> int:
    console = Console(soft_wrap=True, highlight=False)
    started = time.monotonic()
    data, runs = work / "data", {recipe: work / "pretraining" / f"{recipe}-seed0" for recipe in RECIPES}
    options = ["--data", data, "--work", work, "--seeds", "1"]
    options += [] if processes is None else ["--processes", str(processes)]

    _step(console, "Generate data: VOC, COCO and Cityscapes format, and unlabelled images")
    _together([["data", "generate", data]])

    _step(console, "Pretrain two methods side by side on the unlabelled images")
    threads, common = max(1, available_cores() // len(runs)), (*SHORT, f"precision={_precision()}")
    _together(
        [
            ["pretrain", recipe, "--data", data / "pretrain" / "images", "--work", work, "--threads", threads]
            + [word for setting in (*common, *RECIPES[recipe]) for word in ("--set", setting)]
            + (["--resume"] if run.exists() else [])
            for recipe, run in runs.items()
        ],
        prefixes=tuple(RECIPES),
    )
    for run in runs.values():
        _together([["export", run]])

    checkpoints: dict[str, object] = {"random": f"random:{ARCHITECTURE}"}
    checkpoints |= {recipe: run / "export" for recipe, run in runs.items()}

    _step(console, "Probe the frozen backbones, beside three random initialisations")
    probes = [word for protocol in PROBES for word in ("--protocol", protocol)]
    for name, checkpoint in checkpoints.items():
        _together([["submit", checkpoint, "--name", name, "--track", "frozen", *probes, *options]])

    _step(console, f"Fine-tune random initialisation and {TUNED_RECIPE}'s backbone: detection and segmentation")
    tuned = [word for protocol in TUNED for word in ("--protocol", protocol)]
    for name in ("random", TUNED_RECIPE):
        _together([["submit", checkpoints[name], "--name", name, *tuned, *options]])

    _step(console, "Rank them")
    page, csv, markdown = work / "page", work / "leaderboard.csv", work / "leaderboard.md"
    _together([["leaderboard", "--work", work, "--csv", csv, "--markdown", markdown, "--site", page]])
    shown = [word for name in checkpoints for word in ("--name", name)]
    _together([["pictures", "--work", work, "--data", data, "--out", page / "pictures.html", *shown]])
    minutes = (time.monotonic() - started) / 60
    console.print(f"\nDone in {minutes:.1f} minutes. Table: {csv}")
    console.print(f"Page: {page / 'index.html'}   Pictures: {page / 'pictures.html'}")
    return 0


def _precision() -> str:
    """The faster precision on this machine: most processors compute bfloat16 by detours."""
    import torch

    from pretrain.run.precision import fast_bf16

    return "bf16" if fast_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu")) else "fp32"


def _step(console: Console, title: str) -> None:
    console.print(f"\n[bold]{title}[/]")


def _together(commands: Sequence[Sequence[object]], prefixes: Sequence[str] = ()) -> None:
    """Run commands at the same time, each in a process of its own, their lines marked with `prefixes`.

    Raises:
        BenchError: one of them failed; its own message has been printed.
    """
    lines = [[str(word) for word in command] for command in commands]
    for line in lines:
        print(f"$ densebench {shlex.join(line)}", flush=True)
    running = [_start(line, piped=bool(prefixes)) for line in lines]
    readers = [
        threading.Thread(target=_relay, args=(process, prefix))
        for process, prefix in zip(running, prefixes, strict=False)
    ]
    try:
        for reader in readers:
            reader.start()
        codes = [process.wait() for process in running]
    finally:
        stop(running)
        for reader in readers:
            reader.join()
    failed = [line for line, code in zip(lines, codes, strict=True) if code]
    if failed:
        raise BenchError(f"stopped at: densebench {shlex.join(failed[0])}")


def stop(running: Sequence[subprocess.Popen[str]]) -> None:
    """Tell the commands that still run to stop, and wait for them: they save what they have done.

    A terminal's Ctrl-C has told them already; the SIGTERM beside it changes nothing. A second Ctrl-C kills them.
    """
    for process in running:
        process.terminate()
    try:
        for process in running:
            process.wait()
    except KeyboardInterrupt:
        for process in running:
            process.kill()
        raise


def _start(line: list[str], *, piped: bool) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "densebench", *line],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE if piped else None,
        stderr=subprocess.STDOUT if piped else None,
        text=True,
    )


def _relay(process: subprocess.Popen[str], prefix: str) -> None:
    for text in process.stdout or ():
        print(f"[{prefix}] {text}", end="", flush=True)
