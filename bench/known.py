"""Our tracks and protocols, in the form that the leaderboard needs, which does not know them itself."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from bench.protocols import TrainingPlan, load_protocol, with_batch
from bench.smaller_batch import possible_batches
from bench.tracks import TRACKS
from leaderboard.records import TrackDescription


def known_to_leaderboard() -> dict[str, Any]:
    """The arguments `tracks`, `protocols` and `plans` of `leaderboard.build.build`.

    Protocols with smaller batches (`bench.smaller_batch`) have separate tables, one per track and batch: their results
    are never in one table with those of the protocols themselves.
    """
    tables = {
        table: [load_protocol(id_) for id_ in ids]
        for track in TRACKS
        for table, ids in ((track.id, track.protocols), (f"{track.id}-further", track.further))
    }
    smaller = defaultdict(list)
    for protocol in (protocol for protocols in tables.values() for protocol in protocols):
        if isinstance(protocol.plan, TrainingPlan):
            for batch in possible_batches(protocol.plan.batch_size):
                smaller[f"{protocol.track}-batch{batch}"].append(with_batch(protocol, batch))
    tables |= smaller
    every = [protocol for protocols in tables.values() for protocol in protocols]
    return {
        "tracks": {t.id: TrackDescription(id=t.id, purpose=t.purpose, rules=t.rules) for t in TRACKS},
        "protocols": {table: [protocol.reference() for protocol in protocols] for table, protocols in tables.items()},
        "plans": {p.sha256: p.plan.iterations for p in every if isinstance(p.plan, TrainingPlan)},
    }
