"""JSON Schema of the exchanged records, for those who write them in other languages.

`python -m leaderboard.records.schema` renews the files in `leaderboard/schema/`.
"""

from __future__ import annotations

import json
from pathlib import Path

from leaderboard.base.files import write_atomic
from leaderboard.records.base import SCHEMA_VERSION
from leaderboard.records.card import Card
from leaderboard.records.result import Result

FOLDER = Path(__file__).resolve().parents[1] / "schema"
KINDS: dict[str, type[Card] | type[Result]] = {"card": Card, "result": Result}


def json_schema(kind: str) -> str:
    """The JSON Schema (draft 2020-12) of `card` or `result`, without rules between fields, as for a result's key."""
    schema = KINDS[kind].model_json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def file_of(kind: str) -> Path:
    """Where the schema of `card` or `result` is kept."""
    return FOLDER / f"{kind}-{SCHEMA_VERSION}.json"


if __name__ == "__main__":
    for name in KINDS:
        write_atomic(file_of(name), json_schema(name))
