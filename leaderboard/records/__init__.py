"""The records that the three packages exchange: `Card`, `ProtocolReference`, `Result`.

Each is one JSON file that anybody can write; `leaderboard/schema/` holds the JSON Schemas. Every field is required and
none may be added: what is not known is null. `read_card_json` and `read_result_json` check everything (duplicate keys,
ranges, sizes, whether fields agree with each other) and upgrade files of earlier schema versions.
`schema_version` changes whenever a field does.
"""

from leaderboard.records.base import MAX_BYTES, SCHEMA_VERSION, Identifier, Record, Sha256
from leaderboard.records.card import (
    RANDOM_METHOD,
    Card,
    Copies,
    Cost,
    InitialWeights,
    Pretraining,
    Source,
    Stage,
    group_id,
)
from leaderboard.records.protocol import DatasetReference, ProtocolReference, Task, TrackDescription
from leaderboard.records.reading import read_card_json, read_result_json
from leaderboard.records.result import (
    HEAD,
    Environment,
    Operations,
    ProbeReport,
    Result,
    TrainingReport,
    result_key,
)
from leaderboard.records.sweep import Sweep, Tried, best_of, edges

__all__ = [
    "HEAD",
    "MAX_BYTES",
    "RANDOM_METHOD",
    "SCHEMA_VERSION",
    "Card",
    "Copies",
    "Cost",
    "DatasetReference",
    "Environment",
    "Identifier",
    "InitialWeights",
    "Operations",
    "Pretraining",
    "ProbeReport",
    "ProtocolReference",
    "Record",
    "Result",
    "Sha256",
    "Source",
    "Stage",
    "Sweep",
    "Task",
    "TrackDescription",
    "TrainingReport",
    "Tried",
    "best_of",
    "edges",
    "group_id",
    "read_card_json",
    "read_result_json",
    "result_key",
]
