"""Files of every schema version stay readable: frozen ones, as earlier versions wrote them."""

import copy
import json
from pathlib import Path

import pytest
from fabricate import make_card, make_result

from leaderboard.base.errors import RecordError
from leaderboard.records import migrations, read_card_json, read_result_json
from leaderboard.records.migrations import protocol_words
from leaderboard.store import ResultStore

FIXTURES = Path(__file__).parent / "fixtures"
RESULTS = sorted(FIXTURES.glob("v1/result-*.json"))
CARDS = sorted(FIXTURES.glob("v1/card-*.json"))


def kept(old, new):
    """What a migration must not change: everything but names and texts that it is documented to change."""
    renamed = {"colour_order": "color_order", "licence": "license"}
    for key, value in old.items():
        if key != "schema_version":
            there = new[renamed.get(key, key)]
            if isinstance(value, dict):
                kept(value, there)
            else:
                assert there == value, key


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.name)
def test_results_of_version_1(file):
    old = json.loads(file.read_bytes())
    new = read_result_json(file.read_bytes())
    assert old["schema_version"] == 1
    kept({key: value for key, value in old.items() if key != "finished_at"}, json.loads(new.to_json()))
    assert new.file_name == f"{old['card']['name']}--{old['protocol']['id']}--seed{old['seed']}--{old['key']}.json"
    assert (new.verification, new.sweep, new.outputs) == ("self-reported", None, {})
    assert new.protocol.title == new.protocol.short_title == protocol_words(new.protocol.id, new.protocol.track)
    assert read_result_json(new.to_json().encode()) == new


@pytest.mark.parametrize("file", CARDS, ids=lambda file: file.name)
def test_cards_of_version_1(file):
    old = json.loads(file.read_bytes())
    new = read_card_json(file.read_bytes())
    assert old["schema_version"] == 1
    kept(old, json.loads(new.to_json()))
    assert (new.pretraining.recipe_sha256, new.pretraining.group, new.pretraining.stages) == (None, None, ())


def test_files_of_the_present_version_are_read_as_they_were_written():
    for read, record, name in (
        (read_result_json, make_result(), "made-up-result.json"),
        (read_card_json, make_card(), "made-up-card.json"),
    ):
        assert read((FIXTURES / "v2" / name).read_bytes()).to_json() == (FIXTURES / "v2" / name).read_text()
        assert read((FIXTURES / "v2" / name).read_bytes()) == record


def test_a_store_with_both_versions_finds_and_keeps_its_runs(tmp_path):
    store = ResultStore(tmp_path)
    for file in RESULTS:
        result = read_result_json(file.read_bytes())
        (tmp_path / result.file_name).write_bytes(file.read_bytes())
    store.add(make_result(seed=7))
    assert len(list(store)) == len(RESULTS) + 1
    again = read_result_json(RESULTS[0].read_bytes())
    path = store.add(again)
    assert path.read_bytes() == RESULTS[0].read_bytes()
    assert store.find(again.key) == again


MINIMAL = {
    "schema_version": 1,
    "name": "x",
    "method": "M\n\tx ",
    "architecture": "resnet18",
    "parameters": 5,
    "sha256": "a" * 64,
    "source": {"format": "f", "file": "x.pth", "sha256": "b" * 64},
}


def test_what_version_1_left_out_is_stated():
    card = read_card_json(json.dumps(MINIMAL).encode())
    assert (card.stem, card.norm, card.stride_style, card.color_order) == ("7x7", "BN", "pytorch", "RGB")
    assert (card.mean, card.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (card.license, card.code_commit, card.method, card.source.key_prefix) == (None, None, "M x", "")
    assert card.pretraining.data is None
    assert read_card_json(json.dumps({**MINIMAL, "norm": "LN"}).encode()).stride_style == "none"


@pytest.mark.parametrize("field", ["color_order", "license"])
def test_a_field_of_version_2_in_a_card_of_version_1_is_refused(field):
    with pytest.raises(RecordError, match=f"{field}: this field does not exist in schema version 1"):
        read_card_json(json.dumps({**MINIMAL, field: "RGB"}).encode())


def test_an_unknown_field_of_version_1_is_refused():
    with pytest.raises(RecordError, match="colour: Extra inputs are not permitted"):
        read_card_json(json.dumps({**MINIMAL, "colour": "RGB"}).encode())


def test_migrations_leave_their_input_alone():
    old = json.loads(RESULTS[0].read_bytes())
    before = copy.deepcopy(old)
    migrations.result_1_to_2(old)
    assert old == before


def test_a_date_without_zone_is_utc_as_its_writer_meant():
    text = RESULTS[0].read_text()
    zone = json.loads(text)["finished_at"]
    naive = read_result_json(text.replace(zone, "2026-01-02T03:04:05.25").encode())
    assert naive.finished_at.isoformat() == "2026-01-02T03:04:05.250000+00:00"


def test_protocol_words():
    assert protocol_words("mini_voc_det_frcnn_fpn", "mini") == "VOC det Faster R-CNN FPN"
    assert protocol_words("probe_x", "mini") == "probe x"
    assert protocol_words("mini_", "mini") == "mini_"
