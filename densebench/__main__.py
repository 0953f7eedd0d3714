"""`python -m densebench` is the command `densebench`, whatever the current folder holds."""

from __future__ import annotations

import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def main() -> None:
    """Entry point of the command `densebench`."""
    # `python -m` puts the current folder first: a user's own `pretrain.py` or `bench/` there would hide ours.
    if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd() != HOME:
        del sys.path[0]
    from densebench import require_own_packages

    try:
        require_own_packages()
    except ImportError as error:
        hidden = str(error).splitlines()[0]
        sys.exit(f"error: {hidden}\nRename that, uninstall what put it there, or take its folder out of PYTHONPATH.")
    from bench.cli import main as command

    command()


if __name__ == "__main__":
    main()
