"""The error that `pretrain` raises for anything its user can mend."""

from leaderboard.base.errors import DenseBenchError


class PretrainError(DenseBenchError):
    """Says in one or two lines what is wrong and what to do; the command line prints it without a traceback."""
