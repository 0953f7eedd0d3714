"""Two cards of the same weights: in what they contradict each other, and whether both tell of copies of test images."""

from __future__ import annotations

from pathlib import Path

from bench.errors import BenchError
from leaderboard.records import Card


def contradictions(there: Card, card: Card) -> list[str]:
    """Differences between the card that was kept of some weights and a new one, but for copies of test images.

    One card may say more about the pretraining than the other, and the same run takes another time when repeated.
    """
    old, new = there.model_dump(exclude={"source"}), card.model_dump(exclude={"source"})
    found = [
        f"{key} is {old[key]!r} there and {new[key]!r} now"
        for key in new
        if key not in ("pretraining", "code_commit") and old[key] != new[key]
    ]
    earlier, later = (
        old["pretraining"] | {"code": old["code_commit"]},
        new["pretraining"] | {"code": new["code_commit"]},
    )
    return found + [
        f"{key} is {earlier[key]!r} there and {later[key]!r} now"
        for key in later
        if key not in ("cost", "copies") and earlier[key] and later[key] and earlier[key] != later[key]
    ]


def check_copies(folder: Path, there: Card, card: Card) -> None:
    """Check that the card kept in `folder` has the copies of test images of which the new one tells.

    Results repeat the kept card, and the tables mark them by it.

    Raises:
        BenchError: it has not; a search that found nothing is no difference.
    """
    old, new = ({one.dataset: one.copies for one in of.pretraining.copies or ()} for of in (there, card))
    untold = [name for name, copies in new.items() if copies and copies != old.get(name, 0)]
    if untold:
        said = ", ".join(f"{new[name]} of {name}" for name in untold)
        kept = ", ".join(f"{old.get(name, 0)} of {name}" for name in untold)
        raise BenchError(
            f"this card tells of copies of test images ({said}), the one in {folder}, which results repeat, of {kept}: "
            "remove that folder and its results to evaluate again, or mark its card, too, for results to come: "
            f"`densebench data contamination ... --mark {folder}`"
        )
