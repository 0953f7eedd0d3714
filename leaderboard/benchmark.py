"""How long tables of many results take: `python -m leaderboard.benchmark 10000 [FOLDER]`.

Writes made-up results and prints the seconds and the peak memory of making the CSV, and of making CSV and page, each in
a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cyclopts import run

from leaderboard.records import result_key

SEEDS = 3
PROTOCOLS = ("bench_voc_det", "bench_voc_seg", "bench_coco", "bench_city_seg")
_CHILD = """
import resource, sys, time
from pathlib import Path
from leaderboard.build import build
start = time.perf_counter()
site = Path(sys.argv[2], "page") if sys.argv[3] == "page" else None
report = build(Path(sys.argv[1]), csv=Path(sys.argv[2], "table.csv"), site=site)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
spent = f"{time.perf_counter() - start:.1f} s ({time.process_time():.1f} s of CPU)"
print(f"{spent}, {peak:.0f} MiB at most, {report.values} values")
"""


def write_results(folder: Path, count: int) -> None:
    """Write `count` result files: methods under four protocols with three seeds each."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = random.Random(0)
    for i in range(count):
        method, rest = divmod(i, len(PROTOCOLS) * SEEDS)
        protocol, seed = divmod(rest, SEEDS)
        result = _result(method, PROTOCOLS[protocol], seed, min(max(noise.gauss(40 + method % 97 / 5, 0.4), 0), 100))
        name = f"{result['card']['name']}--{PROTOCOLS[protocol]}--seed{seed}--{result['key']}.json"
        (folder / name).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _result(method: int, protocol: str, seed: int, value: float) -> dict[str, Any]:
    name = f"method{method}"
    weights, hash_, data = _sha(name), _sha(protocol), _sha(f"data of {protocol}")
    seen = dict.fromkeys(
        ("recipe_sha256", "group", "data_fingerprint", "crops", "init", "cost", "resolution", "effective_batch")
    )
    return {
        "schema_version": 2,
        "key": result_key(weights, hash_, data, seed),
        "card": {
            "schema_version": 2, "name": name, "method": name if method else "random initialisation",
            "architecture": "resnet18", "stem": "7x7", "norm": "BN", "stride_style": "pytorch", "color_order": "RGB",
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "parameters": 11_176_512, "sha256": weights,
            "pretraining": {
                **seen, "recipe": "made up", "data": "generated", "images": 2000, "epochs": 40.0,
                "image_views": 160_000, "seed": 0, "labels": "none", "stages": [], "copies": None,
            },
            "source": {"format": "made up", "file": name, "sha256": weights, "key_prefix": ""},
            "license": None, "code_commit": None,
        },
        "protocol": {
            "id": protocol, "title": protocol, "short_title": protocol, "version": 1, "sha256": hash_,
            "track": "bench", "task": "semantic segmentation", "dataset": "made up", "headline": "mIoU",
        },
        "dataset": {"name": "made up", "fingerprint": data, "train_images": 300, "val_images": 100, "classes": None},
        "seed": seed,
        "status": "finished",
        "failure": None,
        "metrics": {"mIoU": value, "mAcc": value, "aAcc": value},
        "standard_errors": {"mIoU": 0.5},
        "training": {
            "planned_iterations": 60, "executed_iterations": 60, "batch_size": 16, "learning_rate": 0.01,
            "images_seen": 960, "backbone_tensors": 120, "trainable_parameters": 12_000_000, "frozen_parameters": 0,
            "head_parameters": 800_000,
        },
        "probe": None,
        "operations": None,
        "environment": {
            "device": "none", "precision": "fp32", "threads": 1, "python": "3.11.0",
            "packages": {"torch": "2.15.0", "numpy": "2.2.6"}, "code_commit": None,
        },
        "verification": "self-reported",
        "sweep": None,
        "outputs": {},
        "finished_at": "2026-01-02T03:04:05Z",
        "wall_seconds": 71.5,
        "seconds": {"data": 10.0, "forward_backward": 50.0, "evaluation": 11.5},
        "peak_memory_mib": 900.0,
    }  # fmt: skip


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(count: int, folder: Path | None = None) -> None:
    """Print the measurements.

    Parameters
    ----------
    count
        Number of results.
    folder
        Folder for them, whose results are used if it is there already (default: a temporary one).
    """
    with tempfile.TemporaryDirectory() as temporary:
        results = folder or Path(temporary, "results")
        if not results.is_dir():
            start = time.perf_counter()
            write_results(results, count)
            print(f"{count} results written in {time.perf_counter() - start:.1f} s")
        for what in ("csv", "page"):
            command = [sys.executable, "-c", _CHILD, str(results), temporary, what]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"CSV{' and page' if what == 'page' else ''}: {shown}", end="")


if __name__ == "__main__":
    run(main)
