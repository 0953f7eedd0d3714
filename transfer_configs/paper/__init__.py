"""Track paper: the protocols that papers are judged by, at full size, for GPUs."""
