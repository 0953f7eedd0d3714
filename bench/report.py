"""What `submit` prints: a line a finished run, and the submission's figures at the end."""

from __future__ import annotations

from pathlib import Path

from bench.jobs import Outcome
from bench.submit import Submission, SubmissionPlan
from leaderboard.base.terminal import Console
from leaderboard.store import ResultStore


class RunReporter:
    """Prints a line for each run that ends: how many are done, the headline figure, the time."""

    def __init__(self, plan: SubmissionPlan) -> None:
        self.console = Console(soft_wrap=True, highlight=False)
        self.name = plan.card.name
        self.total, self.ended = len(plan.done) + len(plan.todo), len(plan.done)
        if plan.done:
            self.console.print(f"{self.name}: {len(plan.done)} of {self.total} runs are finished already")

    def __call__(self, outcome: Outcome) -> None:
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


def print_submission(submission: Submission, work: Path) -> None:
    """The last lines: where the results are, what failed, what to type next."""
    console = Console(soft_wrap=True, highlight=False)
    if submission.failures:
        console.print(f"{len(submission.failures)} runs failed; the others are kept. Repeat the command to retry them.")
    console.print(f"results: {work / 'results'} ({len(submission.results)} of {submission.card.name})")
    console.print(f"next: densebench leaderboard --work {work} --csv leaderboard.csv --site page")
