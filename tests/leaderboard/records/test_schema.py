"""The exported JSON Schemas are what the code reads."""

import json

import pytest

from leaderboard.records import Card, Result
from leaderboard.records.schema import KINDS, file_of, json_schema


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_current(kind):
    assert file_of(kind).read_text() == json_schema(kind), "renew them: python -m leaderboard.records.schema"


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_required_and_none_may_be_added(kind):
    schema = json.loads(json_schema(kind))
    for part in (schema, *schema["$defs"].values()):
        assert set(part["required"]) == set(part["properties"])
        assert part["additionalProperties"] is False


def test_the_schemas_name_all_fields():
    for kind, record in (("card", Card), ("result", Result)):
        assert set(json.loads(json_schema(kind))["properties"]) == set(record.model_fields)
