"""What `submit` prints: a line a finished run, and the submission's figures at the end."""

from __future__ import annotations

from pathlib import Path

from bench.jobs import Outcome, TransferRun
from bench.submit import Submission, SubmissionPlan
from leaderboard.base.terminal import Console
from leaderboard.store import ResultStore


class RunReporter:
    """Prints a line for each run that ends: how many are done, the headline figure, the time."""

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
            self.console.print(f"{head}  {figure}  ({outcome.seconds:.0f} s)", markup=False)


def describe(plan: SubmissionPlan) -> list[str]:
    """What was imported, as `inspect` says it, and what input the network gets: the weights do not show it."""
    card, found = plan.card, plan.inspection
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (card.mean, card.std))
    lines = [f"{card.name}: {card.architecture}, random weights"]
    if found is not None:
        within = f", under `{found.location}`" if found.location else ""
        within += f", prefix `{found.prefix}`" if found.prefix else ""
        lines = [f"{card.name}: {card.architecture} of {found.path.name}{within}"]
        lines += [f"note: {note}" for note in found.notes]
    return [*lines, f"input: {card.color_order}, mean {mean}, std {std}; --color-order, --mean and --std change it"]


def print_submission(submission: Submission, work: Path) -> None:
    """The last lines: where the results are, what failed, what to type next."""
    console = Console(soft_wrap=True, highlight=False)
    if submission.failures:
        console.print(f"{len(submission.failures)} runs failed; the others are kept. Repeat the command to retry them.")
    if submission.unusable:
        for line in ResultStore.describe(submission.unusable).splitlines():
            console.print(f"problem: {line}", markup=False)
        console.print("They and their runs are left out: mend the files or move them away, and repeat the command.")
    console.print(f"results: {work / 'results'} ({len(submission.results)} of {submission.card.name})", markup=False)
    if submission.results:
        console.print(f"next: densebench leaderboard --work {work} --csv leaderboard.csv --site page", markup=False)
