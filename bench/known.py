"""What the leaderboard is told of our tracks and protocols, of which it knows nothing itself."""

from __future__ import annotations

from typing import Any

from bench.protocols import TrainingPlan, all_protocols, load_protocol
from bench.tracks import TRACKS
from leaderboard.records import TrackDescription


def known_to_leaderboard() -> dict[str, Any]:
    """The arguments `tracks`, `protocols` and `plans` of `leaderboard.build.build`."""
    return {
        "tracks": {t.id: TrackDescription(id=t.id, purpose=t.purpose, rules=t.rules) for t in TRACKS},
        "protocols": {
            table: [load_protocol(id_).reference() for id_ in ids]
            for t in TRACKS
            for table, ids in ((t.id, t.protocols), (f"{t.id}-further", t.further))
        },
        "plans": {p.sha256: p.plan.iterations for p in all_protocols() if isinstance(p.plan, TrainingPlan)},
    }
