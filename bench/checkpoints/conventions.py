"""Notes on what no tensor shows, so that the submitter must know or declare it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.checkpoints.families import Architecture
from bench.checkpoints.formats.base import TORCHVISION
from bench.checkpoints.layouts import Candidate
from bench.checkpoints.leftovers import UNKNOWN, LeftOver
from bench.checkpoints.naming import MARKS
from leaderboard.base.printable import printable_name

Triple = tuple[float, float, float]


def conventions(
    chosen: Candidate,
    expected: Architecture,
    left_over: Sequence[LeftOver],
    implied: Mapping[str, Triple],
    declared: Sequence[str] = (),
) -> list[str]:
    """The notes on a network.

    Args:
        chosen: the network.
        expected: its architecture.
        left_over: the tensors of the file that the network does not use.
        implied: the mean or std with which the authors of the file's format trained.
        declared: notes on what the file next to the weights says of the architecture; they replace the family's.
    """
    notes = []
    marks = MARKS & {part for name in chosen.sources.values() for part in name[len(chosen.full_prefix) :].split(".")}
    if marks:
        notes.append(f"wrappers of single layers left their marks in the names: {', '.join(sorted(marks))}")
    if chosen.layout.name.startswith("detectron2"):
        notes.append(
            "warning: detectron2's own networks expect BGR and other means (--color-order, --mean, --std), those that "
            "MoCo's converter wrote what they were trained with"
        )
    if chosen.sources.get("norm.weight", "").removeprefix(chosen.full_prefix) == "fc_norm.weight":
        notes.append(
            "its last norm is `fc_norm`, which its training applied to the mean of the patches (fine-tuned MAE): here "
            "it is applied to each patch"
        )
    for group in left_over:
        if group.what == UNKNOWN:
            shown = ", ".join(map(printable_name, group.names[:3])) + ", …" * (len(group.names) > 3)
            notes.append(
                f"warning: not used are {len(group.names):,} tensors of no known part "
                f"({shown}): if its network computes with them, its features are others"
            )
    if chosen.named:
        notes.append(f"{chosen.named} was named by the caller")
    else:
        notes += declared or chosen.family.notes(chosen.tensors, expected)
    if implied:
        said = "; ".join(f"{key} {' '.join(f'{value:g}' for value in triple)}" for key, triple in implied.items())
        notes.append(f"its authors trained with {said}: the card's, where nothing else is declared")
    elif chosen.layout.name == TORCHVISION and any(
        name.startswith(f"{chosen.full_prefix}prototypes.") for group in left_over for name in group.names
    ):
        notes.append("it has prototypes, as SwAV's files: those were trained with std .228 .224 .225; declare it")
    return notes
