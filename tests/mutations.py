"""How many mutated inputs the tests that draw them try."""

import os


def mutations(default: int) -> int:
    """How many mutated inputs to try: `DENSEBENCH_MUTATIONS` where it is set, else the few that a quick run affords."""
    return int(os.environ.get("DENSEBENCH_MUTATIONS", default))
