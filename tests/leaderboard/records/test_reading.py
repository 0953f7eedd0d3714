"""Reading is strict: every field stated, no key twice, ranges and sizes kept, errors in one line."""

import hashlib
import json
from typing import Any

import pytest
from fabricate import make_card, make_probe, make_result, sha
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.base.errors import RecordError
from leaderboard.records import (
    MAX_BYTES,
    InitialWeights,
    Pretraining,
    Stage,
    Sweep,
    Tried,
    group_id,
    read_card_json,
    read_result_json,
    reading,
)


def full_result():
    """A result that has something in every place where there can be something."""
    init = InitialWeights(name="moco-v2", sha256=sha("init"))
    pretraining = Pretraining.known(
        recipe="orl", recipe_sha256=sha("recipe"), data_fingerprint=sha("images"), init=init,
        group=group_id(sha("recipe"), sha("images"), init.sha256), seed=3,
        stages=(
            Stage(name="neighbors", sha256=sha("knn"), seconds=5, image_views=0),
            Stage(name="train", sha256=sha("w"), seconds=9, image_views=640),
        ),
    )  # fmt: skip
    return make_result(
        make_card("orl", pretraining=pretraining),
        sweep=Sweep(
            id="lr",
            settings={"learning_rate": 0.01, "frozen": True, "schedule": "1x", "layers": 3},
            tried=(
                Tried(settings={"learning_rate": 0.02, "frozen": True, "schedule": "1x"}, key="0" * 16, value=None),
                Tried(
                    settings={"learning_rate": 0.01, "frozen": True, "schedule": "1x", "layers": 3},
                    key="1" * 16,
                    value=40.5,
                ),
            ),
            at_edge=(),
        ),
        outputs={"detections.json": sha("detections")},
    )


def paths(value: Any, before: tuple = ()):
    """Where in parsed JSON there is an object, and the keys in it."""
    if isinstance(value, dict):
        yield before, value
        for key, item in value.items():
            yield from paths(item, (*before, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from paths(item, (*before, i))


def without(text: str, path: tuple, key: str) -> bytes:
    values = json.loads(text)
    place = values
    for step in path:
        place = place[step]
    del place[key]
    return json.dumps(values).encode()


FULL = full_result().to_json()
FIELDS = [
    (path, key)
    for path, place in paths(json.loads(FULL))
    for key in place
    if not {"metrics", "packages", "seconds", "outputs", "settings", "standard_errors", "candidates"} & set(path)
]


def test_what_is_written_is_read():
    assert read_result_json(FULL.encode()) == full_result()
    assert read_card_json(make_card().to_json().encode()) == make_card()


@pytest.mark.parametrize(("path", "key"), FIELDS, ids=lambda value: str(value))
def test_every_field_must_be_stated(path, key):
    with pytest.raises(RecordError, match=f"{key}: (Field required|it must be there)"):
        read_result_json(without(FULL, path, key))


def test_every_key_is_counted():
    """If the count were too high somewhere, a duplicate key could slip through."""
    for text in (FULL, make_result().to_json(), make_result(value=None, training=None).to_json()):
        keys = sum(len(place) for _, place in paths(json.loads(text)))
        assert reading._count_keys(read_result_json(text.encode())) == keys == reading._most_keys(text.encode())
    card = make_card().to_json().encode()
    assert reading._count_keys(read_card_json(card)) == reading._most_keys(card)


@pytest.mark.parametrize("path", sorted({path for path, _ in paths(json.loads(FULL))}, key=str), ids=str)
@pytest.mark.parametrize("layout", ['"{}": {},', '"{}" : {},', '"{}"\n\t:{} ,', '"\\u{:04x}{}": {},'])
def test_a_key_that_is_there_twice_is_refused(path, layout):
    values = json.loads(FULL)
    place = values
    for step in path:
        place = place[step]
    key, value = next(iter(place.items()))
    place["MARK"] = 0
    parts = (ord(key[0]), key[1:]) if "04x" in layout else (key,)
    twice = layout.format(*parts, json.dumps(value))
    text = json.dumps(values).replace(', "MARK": 0', "").replace("{", "{MARK", 1) if not path else json.dumps(values)
    data = text.replace("MARK", twice, 1) if not path else text.replace('"MARK": 0', twice.rstrip(" ,"), 1)
    with pytest.raises(RecordError, match=f"{key}: this key is there twice"):
        read_result_json(data.encode())


@settings(deadline=None)
@given(st.text(alphabet='a":\\ ,{}', min_size=1, max_size=20))
def test_texts_that_look_like_keys_are_only_texts(text):
    card = make_card(method=f"x{text}")
    assert read_card_json(card.to_json().encode()) == card


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"mIoU": 50.0', '"mIoU": 250.0', "metrics.mIoU: Input should be less than or equal to 100"),
        ('"mIoU": 50.0', '"mIoU": -1', "metrics.mIoU"),
        ('"mIoU": 50.0', '"mIoU": NaN', "metrics.mIoU"),
        ('"mIoU": 50.0', '"mIoU": 1e999', "metrics.mIoU"),
        ('"mIoU": 50.0', f'"mIoU": {"9" * 400}', "metrics.mIoU"),
        ('"mIoU": 50.0', f'"mIoU": {"9" * 5000}', "."),
        ('"mIoU": 50.0', '"mIoU": "50"', "metrics.mIoU: Input should be a valid number"),
        ('"mIoU": 50.0', '"": 50.0', "metrics"),
        ('"threads": 2', '"threads": true', "environment.threads: Input should be a valid integer"),
        ('"threads": 2', f'"threads": {"9" * 400}', "environment.threads"),
        ('"learning_rate": 0.01', '"learning_rate": 0', "learning_rate: Input should be greater than 0"),
        ('"learning_rate": 0.01', '"learning_rate": Infinity', "learning_rate"),
        ('"executed_iterations": 60', '"executed_iterations": 59', "59 of 60 iterations were executed"),
        ('"wall_seconds": 71.5', '"wall_seconds": -1', "wall_seconds"),
        ('"wall_seconds": 71.5', '"wall_seconds": Infinity', "wall_seconds: Input should be a finite number"),
        ('"data": 10.0', '"data": NaN', "seconds.data"),
        ('"finished_at": "2026-01-02T03:04:05Z"', '"finished_at": "2026-01-02T03:04:05"', "timezone"),
        ('"finished_at": "2026-01-02T03:04:05Z"', '"finished_at": 5', "finished_at"),
        ('"verification": "self-reported"', '"verification": "trust me"', "verification"),
        ('"seed": 0,\n  "status"', '"seed": 1,\n  "status"', "the file was edited"),
        ("0.485", "123.675", "card.mean.0: Input should be less than or equal to 1"),
        ("0.229", "0", "card.std.0: Input should be greater than 0"),
        ('"RGB"', '"rgb"', "card.color_order"),
        ('"MoCo v2"', '""', "card.method"),
        ('"MoCo v2"', '"a\\nb"', "card.method"),
        ('"MoCo v2"', f'"{"a" * 201}"', "card.method: String should have at most 200"),
        ('"MoCo v2"', '"\\ud800"', "."),
        ('"license": "Apache-2.0"', '"license": ""', "card.license"),
        ('"status": "finished"', '"state": "finished"', "status"),
        ('{\n  "schema_version": 2', '{\n  "schema_version": 3', "later than the 2 that this densebench reads"),
        ('{\n  "schema_version": 2', f'{{\n  "schema_version": {"9" * 400}', "later than the 2"),
        ('{\n  "schema_version": 2', '{\n  "schema_version": true', "schema_version"),
        ('{\n  "schema_version": 2', '{\n  "schema_version": "2"', "schema_version"),
        ('"card": {\n    "schema_version": 2', '"card": {\n    "schema_version": 1', "card.schema_version"),
    ],
)
def test_what_is_out_of_range_is_named(old, new, problem):
    text = make_result().to_json()
    assert old in text
    with pytest.raises(RecordError, match=problem) as raised:
        read_result_json(text.replace(old, new, 1).encode())
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"[" * 500_000, b'{"a":' * 150_000,
        b'{"schema_version": 2, "card": ' + b"[" * 900_000, b'{"schema_version": 1, "card": ' + b'{"a":' * 150_000,
        b'{"schema_version": 1, "card": 5, "protocol": [], "metrics": null, "finished_at": 3}',
        b'{"schema_version": 1, "pretraining": 7, "norm": [], "mean": {}}',
        b" " * (MAX_BYTES + 1),
    ],
    ids=range(13),
)  # fmt: skip
@pytest.mark.parametrize("read", [read_card_json, read_result_json])
def test_what_is_no_record_is_an_error_in_a_line(read, data):
    with pytest.raises(RecordError) as raised:
        read(data)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_many_metrics_are_bounded():
    with pytest.raises(RecordError, match="metrics: Dictionary should have at most 2000 items"):
        text = make_result(metrics={"m": 1.0}).to_json()
        many = ", ".join(f'"m{i}": 1.0' for i in range(2001))
        read_result_json(text.replace('"m": 1.0', many).encode())


def test_a_group_must_follow_from_its_inputs():
    wrong = FULL.replace(full_result().card.pretraining.group, "0" * 16)
    with pytest.raises(RecordError, match=r"card\.pretraining: group is 0{16}, but recipe, data and init give"):
        read_result_json(wrong.encode())


def test_the_group_is_the_same_for_all_seeds_and_for_nothing_else():
    inputs = [(sha(a), sha(b), c) for a in "xy" for b in "xy" for c in (None, sha("x"), sha("y"))]
    assert len({group_id(*values) for values in inputs}) == len(inputs)
    assert (
        group_id("a" * 64, "b" * 64, None) == hashlib.sha256(f"{'a' * 64}\n{'b' * 64}\nnone".encode()).hexdigest()[:16]
    )


def test_a_probe_is_read_and_has_evaluated_every_image():
    result = make_probe()
    assert read_result_json(result.to_json().encode()) == result
    short = result.to_json().replace('"images_evaluated": 100', '"images_evaluated": 99')
    with pytest.raises(RecordError, match="executed what was planned, but 99 of 100 images were evaluated"):
        read_result_json(short.encode())
    trained = make_result().training
    with pytest.raises(RecordError, match="either the report of its training or that of its probe"):
        read_result_json(result.model_copy(update={"training": trained}).to_json().encode())
    with pytest.raises(RecordError, match="either the report of its training or that of its probe"):
        read_result_json(make_result().model_copy(update={"training": None}).to_json().encode())


def test_equal_parts_of_results_are_one_object():
    """Of a hundred thousand results it saves half the memory; what differs stays apart."""
    results = [make_result("moco", seed=seed) for seed in range(2)] + [make_result("densecl")]
    read = [read_result_json(result.to_json().encode()) for result in results]
    assert read == results
    assert read[0].card is read[1].card and read[0].card is not read[2].card
    assert all(getattr(read[0], name) is getattr(read[2], name) for name in ("protocol", "dataset", "environment"))
