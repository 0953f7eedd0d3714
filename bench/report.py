"""What `submit` prints: one line per finished run, the submission's values at the end, or findings of a rehearsal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.jobs import Outcome, TransferRun
from bench.known import known_to_leaderboard
from bench.protocols import Protocol
from bench.rehearsal import Rehearsal, Rehearsed
from bench.submit import Submission, SubmissionPlan
from leaderboard.base.terminal import Console
from leaderboard.build import build
from leaderboard.errors import LeaderboardError
from leaderboard.records import RANDOM_METHOD, Card, Result
from leaderboard.store import ResultStore
from leaderboard.submission import report_on
from leaderboard.submission_page import write
from leaderboard.sweeps import describe_choice
from pretrain.run.history import duration

_COST = ["training", "evaluation", "memory", "disk"]
REHEARSAL_COLUMNS = ["protocol", "batch", "s/iteration", "iterations", *_COST, "note"]


class RunReporter:
    """Prints a line for each run that ends: how many are done, the headline value, the time."""

    def __init__(self, plan: SubmissionPlan) -> None:
        self.console = Console(soft_wrap=True, highlight=False)
        self.name = plan.card.name
        self.total, self.ended = len(plan.done) + len(plan.todo), len(plan.done)
        for line in describe(plan):
            self.console.print(line, markup=False)
        if plan.done:
            self.console.print(f"{self.name}: {len(plan.done)} of {self.total} runs are finished already")

    def __call__(self, outcome: Outcome[TransferRun]) -> None:
        """Report one run."""
        self.ended += 1
        run = outcome.run
        head = f"[{self.ended}/{self.total}] {self.name}  {run.protocol}  seed {run.seed}"
        result = None if outcome.failure else ResultStore(run.results).find(run.key)
        if result is None:
            self.console.print(f"{head}  FAILED: {outcome.failure}", markup=False)
        elif result.status == "failed":
            self.console.print(f"{head}  failed: {result.failure}  ({outcome.seconds:.0f} s)", markup=False)
        else:
            headline = result.protocol.headline
            figure = f"{headline} {result.metrics[headline]:.1f}"
            figure += " on held-out training images" if result.held_out else ""
            self.console.print(f"{head}  {figure}  ({outcome.seconds:.0f} s{_waited(result)})", markup=False)
            if result.sweep is not None and result.sweep.tried:
                self.console.print(f"    with {describe_choice(result.sweep)}", markup=False)


def _waited(result: Result) -> str:
    """The share of a training's time in which it waited for data."""
    data, step = (result.seconds.get(name, 0.0) for name in ("data", "forward_backward"))
    return f", {data / (data + step):.0%} of the training waiting for data" if data + step else ""


def describe(plan: SubmissionPlan) -> list[str]:
    """Lines about the imported checkpoint, like those of `inspect`, and its input, which the weights do not show."""
    card, found = plan.card, plan.inspection
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (card.mean, card.std))
    lines = [f"{card.name}: {card.architecture}, random weights"]
    if found is not None:
        within = f", under `{found.location}`" if found.location else ""
        within += f", prefix `{found.prefix}`" if found.prefix else ""
        lines = [f"{card.name}: {card.architecture} of {found.path.name}{within}"]
        lines += found.remarks
    return [*lines, f"input: {card.color_order}, mean {mean}, std {std}; --color-order, --mean and --std change it"]


def print_submission(submission: Submission, work: Path) -> None:
    """Print the last lines: where the results are, what failed, and the next command."""
    console = Console(soft_wrap=True, highlight=False)
    if submission.failures:
        console.print(f"{len(submission.failures)} runs failed; the others are kept. Repeat the command to retry them.")
    if submission.unusable:
        for line in ResultStore.describe(submission.unusable).splitlines():
            console.print(f"problem: {line}", markup=False)
        console.print("They and their runs are left out: fix the files or move them away, and repeat the command.")
    console.print(f"results: {work / 'results'} ({len(submission.results)} of {submission.card.name})", markup=False)
    finished = any(result.status == "finished" for result in submission.results)
    if finished and submission.card.method != RANDOM_METHOD:
        for line in _report(submission.card, work):
            console.print(line, markup=False)
    if submission.results:
        console.print(f"next: densebench leaderboard --work {work} --csv leaderboard.csv --site page", markup=False)


def _report(card: Card, work: Path) -> list[str]:
    """Write the submission's report; the verdicts, and where the report is, or why there is none."""
    try:
        report = report_on(build(work / "results", **known_to_leaderboard()).board, card.name, card.sha256)
    except LeaderboardError as error:  # its results may stand in no table, e.g. of a changed protocol
        return [f"no report: {error}"]
    page, _ = write(report, work / "reports" / report.entry.label)
    return [*(chapter.verdict for chapter in report.chapters), f"report: {page}"]


def print_missing_data(missing: Mapping[str, Sequence[str]], protocols: Sequence[Protocol]) -> None:
    """Print all problems of each data set that cannot be used, and the protocols that need it."""
    console = Console(soft_wrap=True, highlight=False)
    for dataset, errors in missing.items():
        waiting = [protocol.id for protocol in protocols if protocol.dataset == dataset]
        console.print(f"{dataset} cannot be used, so these are not rehearsed: {', '.join(waiting)}", markup=False)
        for error in errors:
            console.print(f"  {error}", markup=False)


def rehearsal_rows(rehearsal: Rehearsal) -> list[list[str]]:
    """One row per protocol, under `REHEARSAL_COLUMNS`; extrapolated values begin with a tilde."""
    return [_row(one) for one in rehearsal.rehearsed]


def rehearsal_lines(rehearsal: Rehearsal) -> list[str]:
    """Lines below the table: totals, what does not fit, what failed, and what was not rehearsed."""
    lines = [f"{name}: FAILED: {why}" for name, why in rehearsal.problems.items()]
    runs = rehearsal.seeds * len(rehearsal.rehearsed) + rehearsal.sweep_runs
    if runs:
        each = f"{rehearsal.seeds} of each" + (f" and {rehearsal.sweep_runs} of sweeps" if rehearsal.sweep_runs else "")
        whole = f"all {runs} runs, {each}, one after the other: {duration(3600 * rehearsal.hours)}"
        lines.append(f"{whole}; {_size(rehearsal.disk_bytes)} on the disk, without predictions")
    if rehearsal.disk_bytes > rehearsal.free_bytes:
        lines.append(f"the disk is too small: {_size(rehearsal.free_bytes)} are free. Choose another --work")
    if not all(one.fits for one in rehearsal.rehearsed):
        lines.append("TOO LARGE: --batch N trains with fewer images per iteration; its results are in another table")
    if rehearsal.probes:
        lines.append(f"not rehearsed, as probes take minutes: {', '.join(rehearsal.probes)}")
    return [*lines, "no result was stored"]


def _row(one: Rehearsed) -> list[str]:
    about = "~" if one.extrapolated else ""
    notes = [f"extrapolated from a batch of {one.measured_batch}"] if one.extrapolated else []
    if not one.fits:
        notes.append(f"TOO LARGE: there are {one.device_mib / 1024:.1f} GiB for it")
    return [
        one.protocol,
        str(one.batch),
        f"{about}{one.iteration_seconds:.3g}",
        f"{one.iterations:,}",
        f"{about}{duration(3600 * one.training_hours)}",
        duration(3600 * one.evaluation_hours),
        f"{about}{one.memory_mib / 1024:.1f} GiB",
        _size(one.disk_bytes),
        "; ".join(notes),
    ]


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
