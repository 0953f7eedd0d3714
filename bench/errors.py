"""What `bench` raises for problems that its user can fix, and for work that goes on elsewhere."""

from leaderboard.base.errors import DenseBenchError


class BenchError(DenseBenchError):
    """Says in one or two lines what is wrong and what to do; the command line prints it without a traceback."""


class Queued(Exception):  # noqa: N818 - nothing is wrong
    """The runs are queued elsewhere, and nobody waits for them. The text says so to the user; the command is done."""
