"""The error that `leaderboard` raises for problems that its user can fix."""

from leaderboard.base.errors import DenseBenchError


class LeaderboardError(DenseBenchError):
    """Says in one or two lines what is wrong and what to do; the command line prints it without a traceback."""
