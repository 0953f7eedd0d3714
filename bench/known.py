"""Our tracks and protocols, in the form that the leaderboard needs, which does not know them itself."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from bench.protocol_text import as_python
from bench.protocols import Protocol, TrainingPlan, load_protocol, with_batch
from bench.smaller_batch import possible_batches
from bench.tracks import TRACKS
from leaderboard.page_data import Background, MethodSource
from leaderboard.records import TrackDescription


def known_to_leaderboard() -> dict[str, Any]:
    """The arguments `tracks`, `protocols`, `plans` and `background` of `leaderboard.build.build`.

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
        "background": Background(_method_source, lambda sha256: _definition(every, sha256)),
    }


def _definition(protocols: Sequence[Protocol], sha256: str) -> str | None:
    """The protocol's docstring and every value of it; None where no protocol has this hash."""
    texts = (as_python(protocol) for protocol in protocols if protocol.sha256 == sha256)
    # Without the line that names the file: it differs from machine to machine.
    return next((re.sub(r"^# from .*\n", "", text, flags=re.MULTILINE) for text in texts), None)


def _method_source(name: str) -> MethodSource | None:
    """The papers of the method of this name, and the repositories that its recipes name; None for methods of others."""
    from pretrain.methods import METHODS, all_recipes, method_of  # takes seconds, and only the page needs it

    method = next((method for method in METHODS if method.info.name == name), None)
    if method is None:
        return None
    papers = [recipe.paper for recipe in all_recipes().values() if method_of(recipe) is method]
    code = {repository for paper in papers for repository in re.findall(r"\bcode ([\w-]+/[\w.-]+)", paper)}
    return MethodSource(method.info.paper, tuple(sorted(code)))
