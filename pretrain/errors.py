"""The error that `pretrain` raises for problems that its user can fix."""

from leaderboard.base.errors import DenseBenchError


class PretrainError(DenseBenchError):
    """Says in one or two lines what is wrong and what to do; the command line prints it without a traceback."""
