"""Result files that somebody edited or damaged: each is read right, or refused with an error that says where."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from fabricate import make_result

from leaderboard.base.errors import RecordError
from leaderboard.base.printable import printable_name
from leaderboard.build import build
from leaderboard.records import Result, read_result_json, reading
from leaderboard.store import ResultStore
from tests.mutations import mutations

FIXTURES = Path(__file__).parent / "fixtures"
PATHS = sorted(FIXTURES.glob("v[12]/*result*.json"))
SOURCES = [path.read_bytes() for path in PATHS]
DEEP: Any = json.loads("[" * 500 + "]" * 500)
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 60, 0.5, -0.0, 1e308, 100.0000001, 10**18, 2**63, int("9" * 400), "", " ", "x",
    "0", "nan", "x" * 5000, "\x1b]0;title\x07", "\ud800", "a\nb", "\u202eab", "=1+1", "../../etc/passwd", "constructor",
    "__proto__", [], {}, [1], {"a": 1}, {"": 0}, DEEP, "2026-01-02T03:04:05", "2026-13-40T99:00:00Z", "é" * 90,
]  # fmt: skip

ABOUT_ALL = (
    "key is ", "it is ", "it holds", "does not exist in", "group is ", "a finished result", "a failed result",
    "Invalid JSON",
)  # fmt: skip
"""Errors about the file, or about what several fields say of each other."""

AMERICAN = {"colour_order": "color_order", "licence": "license"}
"""Names of version 1, which is upgraded before it is checked."""


def places(value: Any, path: tuple = ()):
    """The path of every value inside parsed JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutate_value(draw: random.Random, values: Any) -> tuple[bytes, str]:
    """One value changed, removed, added, renamed or moved; and the name of its field."""
    values = copy.deepcopy(values)
    *above, last = draw.choice(list(places(values)))
    place = values
    for step in above:
        place = place[step]
    field = next(step for step in reversed([*above, last]) if isinstance(step, str))
    kind = draw.choice(["set"] * 6 + ["remove", "add", "rename", "swap"])
    if kind == "remove" or (kind in ("add", "rename") and isinstance(place, list)):
        del place[last]
    elif kind == "add":
        field = draw.choice(["extra", "Seed", "seed ", "\x1b[2J", "x" * 3000, "constructor", "a;=1+1"])
        place[field] = place[last]
    elif kind == "rename":
        place[f"{last}2"] = place.pop(last)
    elif kind == "swap":
        *elsewhere, other = draw.choice(list(places(values)))
        taken = values
        for step in elsewhere:
            taken = taken[step]
        place[last] = copy.deepcopy(taken[other])
    else:
        place[last] = draw.choice(VALUES)
    return json.dumps(values, ensure_ascii=draw.random() < 0.5).encode(errors="surrogatepass"), field


def mutate_bytes(draw: random.Random, data: bytes) -> tuple[bytes, str]:
    """The text cut, a byte of it changed, something put in or put around it."""
    at = draw.randrange(len(data))
    noise = draw.choice(
        [b'"', b"{", b"[" * 3000, b"NaN", b"\0", b"\xff", b"1" * 400, b"-", b'"seed": 1,', b"//", b"\\u"]
    )
    changed = [
        data[:at],
        data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :],
        data[:at] + noise + data[at:],
        data[:at] + data[draw.randrange(at, len(data)) :],
        b"\xef\xbb\xbf" + data,
        data.decode().encode("utf-16"),
        data + data,
        b"[" + data + b"]",
        data + b" " * 1_000_000,
    ]
    return draw.choice(changed), ""


def mutated(number: int) -> tuple[bytes, str]:
    draw = random.Random(number)
    data = draw.choice(SOURCES)
    return mutate_value(draw, json.loads(data)) if draw.random() < 0.75 else mutate_bytes(draw, data)


def numbers_alike(value: Any) -> Any:
    """1 and 1.0 are one number, and a moment is one however its zone is written."""
    if isinstance(value, dict):
        return {key: numbers_alike(inner) for key, inner in value.items() if key not in ("finished_at", "failure")}
    if isinstance(value, list):
        return [numbers_alike(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def problem_of(data: bytes) -> str | None:
    """Why the bytes are no result; if they are one, everything in them is in the record."""
    try:
        result = read_result_json(data)
    except RecordError as error:
        return str(error)
    written = json.loads(result.to_json())
    assert read_result_json(result.to_json().encode()) == result
    said = json.loads(data)
    if said["schema_version"] == 2:
        assert numbers_alike(written) == numbers_alike(said)
    else:
        for name in ("key", "seed", "status", "metrics", "wall_seconds", "seconds"):
            assert numbers_alike(written[name]) == numbers_alike(said.get(name, {})), name
        assert written["card"]["sha256"] == said["card"]["sha256"]
    if result.status == "finished":
        assert result.training.executed_iterations == result.training.planned_iterations
    return None


@pytest.mark.parametrize("part", range(4))
def test_it_is_read_right_or_refused_with_the_field(part):
    count = mutations(120)
    for number in range(part, count, 4):
        data, field = mutated(number)
        problem = problem_of(data)
        if problem is None:
            continue
        assert len(problem) < 600 and len(problem.splitlines()) <= 1, (number, problem)
        assert not any(character < " " for character in problem), (number, problem)
        if field:
            words = (printable_name(AMERICAN.get(field, field))[:20], *ABOUT_ALL)
            assert any(word in problem for word in words), (number, field, problem)


def test_reading_in_parts_is_reading_the_whole():
    """Also where a part's text stands elsewhere than the part, or twice."""
    accepted = 0
    for number in range(mutations(200)):
        draw = random.Random(number)
        values = json.loads(make_result().to_json())
        text = json.dumps(values, indent=2).encode()
        card = text[text.index(b'\n  "card"') : text.index(b'\n  "protocol"')]
        at = draw.choice([place for place in range(len(text)) if text[place - 1 : place] in (b"{", b",", b"}", b"\n")])
        kind = draw.randrange(4)
        if kind == 0:
            data = json.dumps(json.loads(mutate_value(draw, values)[0]), indent=2).encode()
        elif kind == 1:
            data = mutate_bytes(draw, text)[0]
        elif kind == 2:
            data = text[:at] + card + text[at:]
        else:
            data = text.replace(card, b"")[:at] + card + text.replace(card, b"")[at:]
        found = reading._assembled(data)
        if found is not None:
            accepted += 1
            assert found == reading._read(Result, data), number
            assert type(found) is Result and found.to_json() == reading._read(Result, data).to_json()
    assert accepted > 5


def test_the_tables_are_made_of_the_rest(tmp_path):
    good = [make_result(name, seed=seed, value=10.0 + seed) for name in ("moco", "random") for seed in (0, 1)]
    for result in good:
        ResultStore(tmp_path / "r").add(result)
    build(tmp_path / "r", csv=tmp_path / "good.csv")
    refused = 0
    for number in range(mutations(120)):
        data, _ = mutated(number)
        if problem_of(data) is not None:
            (tmp_path / "r" / f"{number:06d}.json").write_bytes(data)
            refused += 1
    report = build(tmp_path / "r", csv=tmp_path / "l.csv")
    assert (tmp_path / "l.csv").read_bytes() == (tmp_path / "good.csv").read_bytes()
    assert report.left_out == refused > 20
    assert len(report.problems) <= 11
    assert all(".json: " in problem for problem in report.problems[:10])
    assert not any(character < " " for problem in report.problems for character in problem)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.name)
def test_of_a_finished_result_that_stopped_early_nothing_is_ranked(path):
    """3 of 60 iterations: in both versions of the schema."""
    values = json.loads(path.read_bytes())
    if values["status"] != "finished":
        pytest.skip("failed runs may have stopped anywhere")
    planned = values["training"]["planned_iterations"]
    values["training"]["executed_iterations"] = 3
    with pytest.raises(RecordError, match=f"executed what was planned, but 3 of {planned} iterations were executed"):
        read_result_json(json.dumps(values).encode())
