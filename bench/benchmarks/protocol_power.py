"""What a fine-tuning protocol shows for its time, at other learning rates and lengths: gain, noise, and minutes.

    python -m bench.benchmarks.protocol_power CHECKPOINT... --data ROOT --work WORK --protocol mini_city_seg_fcn \\
        [--rates 1 --rates 0.3] [--head-rate 1] [--lengths 1 --lengths 0.5] [--seeds 3]

Each variant of the protocol, at each of the rates with each of the lengths, fine-tunes every checkpoint (a folder with
an exported backbone) and random initialization of the same architecture with some seeds; random initialization has
another network with each. All else is the protocol's. The table gives, for each variant,

    the mean of each checkpoint
    gain      of the checkpoints' mean over random initialization, in points
    sd        of single runs, pooled over checkpoints, in points
    between   the standard deviation of the checkpoints' own means, without random initialization
    min       minutes of a run
    to show   minutes of all runs that show the gain with power .8, if gain and sd are as measured:
              2 n runs with n = 2 ((1.96 + .84) sd / gain) ** 2, which need not be whole

`to show` is what to minimize, and it is as uncertain as the sd of few runs: 9 runs of 3 checkpoints leave a factor of
about 3 either way. A run that is stored is not repeated; results stay in WORK, and are never ranked.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from cyclopts import run
from rich.table import Table

from bench.benchmarks.rounds import output, start
from bench.checkpoints import import_checkpoint
from bench.config_data import copy_data
from bench.errors import BenchError
from bench.openmmlab.runner import run_transfer
from bench.power import least_known_error, pooled_sd
from bench.protocols import Protocol, TrainingPlan, from_config, load_protocol
from bench.submit import check_data_sets, run_folder
from bench.sweep_config import with_iterations, with_settings
from leaderboard.records import DatasetReference, result_key
from leaderboard.store import ResultStore
from pretrain.exported import read_card

RANDOM = "random"
POWER = 0.8
ONE_SEED = "one run of each tells nothing of noise: take at least two seeds"
Values = Mapping[str, Sequence[float]]
"""Values of each checkpoint's runs, in points; those of random initialization are `RANDOM`'s."""


def variant(protocol: Protocol, *, rate: float, length: float, head_rate: float | None = None) -> Protocol:
    """`protocol` at `rate` times its learning rate, over `length` times its iterations; its own hash shows that.

    With `head_rate`, necks and heads have so many times their own rate in the protocol, whatever the backbone's; both
    rates fall in proportion, and a polynomial schedule goes down to 0. A variant chooses nothing: that of a protocol
    which chooses its settings by a sweep has the settings in the protocol's file.

    Raises:
        BenchError: it is a probe, or has a schedule whose length cannot be changed.
    """
    plan = protocol.plan
    if not isinstance(plan, TrainingPlan):
        raise BenchError(f"{protocol.id} is a probe: it has no learning rate and no length")
    if min(rate, length, 1 if head_rate is None else head_rate) <= 0:
        raise BenchError("rates and lengths are above 0")
    decay = protocol.config["optim_wrapper"]["optimizer"]["weight_decay"]
    own = {name: value for name, value in protocol.config.items() if name != "sweep"}
    config = with_settings(own, {"learning_rate": plan.learning_rate * rate, "weight_decay": decay})
    made = with_iterations(config, max(1, round(plan.iterations * length)))
    heads = "" if head_rate is None else f"_head{head_rate:g}"
    made["protocol"] |= {"id": f"{protocol.id}_rate{rate:g}{heads}_length{length:g}", "track": "power"}
    if head_rate is not None:
        made = _with_head_rate(made, (plan.head_learning_rate or plan.learning_rate) * head_rate)
    return from_config(copy_data(made, "config"), protocol.docstring, protocol.config_file)


def _with_head_rate(config: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """A protocol's config in which all but the backbone has the learning rate `rate`."""
    header, wrapper = config["protocol"], config["optim_wrapper"]
    plan = {**header["plan"], "head_learning_rate": rate}
    schedulers = [{**one, "eta_min": 0.0} if "eta_min" in one else one for one in config["param_scheduler"]]
    if schedulers != config["param_scheduler"]:
        plan["final_learning_rate"] = 0.0
    options = {**wrapper.get("paramwise_cfg", {}), "head_lr_mult": rate / plan["learning_rate"]}
    return {
        **config,
        "protocol": {**header, "plan": plan},
        "optim_wrapper": {**wrapper, "constructor": "HeadRate", "paramwise_cfg": options},
        "param_scheduler": schedulers,
    }


def value_of(
    protocol: Protocol, checkpoint: Path, data: Path, dataset: DatasetReference, seed: int, work: Path
) -> tuple[float, float]:
    """The protocol's metric in points, and the minutes, of a run; it is done if it is not stored.

    Raises:
        BenchError: the run diverged.
    """
    card, store = read_card(checkpoint), ResultStore(work / "results")
    key = result_key(card.sha256, protocol.sha256, dataset.fingerprint, seed, None)
    result = store.find(key)
    if result is None:
        folder = run_folder(work, card.sha256, protocol.id, seed, key)
        result = run_transfer(protocol, checkpoint, data, dataset, seed, folder)
        store.add(result)
    if result.status != "finished":
        raise BenchError(f"{protocol.id}, {card.name}, seed {seed}: {result.failure}")
    return result.metrics[protocol.headline], result.wall_seconds / 60


def summary(values: Values, minutes: float) -> dict[str, float]:
    """Gain, sd, between, and minutes to show the gain (infinite where there is none) of one variant."""
    means = {name: statistics.fmean(of_runs) for name, of_runs in values.items()}
    pretrained = [mean for name, mean in means.items() if name != RANDOM]
    gain = statistics.fmean(pretrained) - means[RANDOM]
    found = pooled_sd([list(of_runs) for of_runs in values.values()])
    if found is None:
        raise BenchError(ONE_SEED)
    sd = found[0]
    runs = 2 * (least_known_error(sd, POWER) / gain) ** 2 if gain > 0 else float("inf")
    return {
        "gain": gain,
        "sd": sd,
        "between": statistics.stdev(pretrained) if len(pretrained) > 1 else float("nan"),
        "min": minutes,
        "to show": 2 * runs * minutes,
    }


def main(
    *checkpoints: Path,
    data: Path,
    work: Path,
    protocol: str,
    rates: Sequence[float] = (1.0,),
    head_rate: float | None = None,
    lengths: Sequence[float] = (1.0,),
    seeds: int = 3,
    threads: int = 1,
) -> None:
    """Measure what a protocol's variants show.

    Parameters
    ----------
    checkpoints
        Folders with exported backbones of one architecture.
    data
        Data root.
    work
        Folder in which runs and results stay.
    protocol
        Id of the protocol.
    rates
        Learning rates, as multiples of the protocol's; of the backbone alone with --head-rate.
    head_rate
        Learning rate of necks and heads, as a multiple of theirs in the protocol; if not given, it follows --rates.
    lengths
        Numbers of iterations, as multiples of the protocol's.
    seeds
        Number of seeds, from 0 on.
    threads
        Threads of a run.
    """
    if not checkpoints:
        raise BenchError("name at least one folder with an exported backbone")
    if seeds < 2:
        raise BenchError(ONE_SEED)
    cards = [read_card(folder) for folder in checkpoints]
    architectures = {card.architecture for card in cards}
    if len(architectures) > 1:
        raise BenchError(f"checkpoints of one architecture can be compared, not of {', '.join(sorted(architectures))}")
    if len({RANDOM, *(card.name for card in cards)}) <= len(cards):
        raise BenchError(f"give each checkpoint a name of its own, and none {RANDOM!r}")
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    chosen = load_protocol(protocol)
    dataset = check_data_sets(data, [chosen])[chosen.dataset]
    own, architecture = range(seeds), architectures.pop()
    drawn = [import_checkpoint(f"random:{architecture}:{n}", name=f"random-{architecture}-{n}", work=work) for n in own]
    rows = {RANDOM: drawn} | {card.name: [folder] * seeds for card, folder in zip(cards, checkpoints, strict=True)}
    console = output()
    table = Table(title=f"{chosen.id}, {chosen.headline}, {seeds} seeds", title_justify="left", show_edge=False)
    columns = ("rate", "length", *rows, "gain", "sd", "between", "min", "to show")
    for column in columns:
        table.add_column(column, justify="right")
    for rate, length in itertools.product(rates, lengths):
        tried = variant(chosen, rate=rate, length=length, head_rate=head_rate)
        values: dict[str, list[float]] = {name: [] for name in rows}
        minutes = []
        for seed, name in itertools.product(own, rows):
            value, took = value_of(tried, rows[name][seed], data, dataset, seed, work)
            values[name].append(value)
            minutes.append(took)
            console.print(f"{tried.id} {name} seed {seed}: {value:.2f} ({took:.1f} min)")
        found = summary(values, statistics.fmean(minutes))
        means = [f"{statistics.fmean(values[name]):.2f}" for name in rows]
        told = [f"{found[name]:.2f}" for name in columns[-5:-1]]
        table.add_row(f"{rate:g}", f"{length:g}", *means, *told, f"{found['to show']:.0f}")
    console.print(table)


if __name__ == "__main__":
    start(lambda: run(main))
