"""DenseBench for Python: which pretrained backbone is best for dense prediction?

>>> import densebench
>>> method = densebench.build_method("densecl-mini", dim=64)
>>> densebench.__all__
('Backbone', 'build_method', 'export', 'leaderboard', 'load_backbone', 'make_views', 'pretrain', 'submit')

Everything that the command `densebench` does is in the packages `pretrain` (methods), `bench` (import, probes,
fine-tuning) and `leaderboard` (tables); this package has what a notebook needs.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from densebench.api import (
        Backbone,
        build_method,
        export,
        leaderboard,
        load_backbone,
        make_views,
        pretrain,
        submit,
    )

__all__ = (
    "Backbone",
    "build_method",
    "export",
    "leaderboard",
    "load_backbone",
    "make_views",
    "pretrain",
    "submit",
)

_PACKAGES = ("bench", "leaderboard", "pretrain", "transfer_configs")


def __getattr__(name: str) -> Any:
    """The functions are imported when they are first used: `import densebench` alone takes no time."""
    if name not in __all__:
        raise AttributeError(f"densebench has no {name!r}: it has {', '.join(__all__)}")
    require_own_packages()
    from densebench import api

    return getattr(api, name)


def require_own_packages() -> None:
    """Refuse to run where Python finds another project's file or package under the name of one of DenseBench's.

    Raises:
        ImportError: there is one; the message names it and says what to do.
    """
    home = Path(__file__).resolve().parents[1]
    for name in _PACKAGES:
        found = PathFinder.find_spec(name)
        if found is None:
            continue  # an installation in development mode has a finder of its own, which comes after the path
        place = found.origin or next(iter(found.submodule_search_locations or ()))  # of a folder without __init__.py
        if Path(place).resolve() != home / name / "__init__.py":
            raise ImportError(
                f"DenseBench's package {name!r} is hidden by {place}.\n"
                "Rename that, or start Python in another folder; the command `densebench` works in this one, too."
            )
