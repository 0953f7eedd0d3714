"""Protocols are data: what the hash covers, what it does not, and what reading them costs."""

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.protocols import CONFIGS, Protocol, all_protocols, canonical_json, hash_config, load_protocol, read_protocol
from bench.tracks import TRACKS

IDS = [protocol_id for track in TRACKS for protocol_id in track.protocols]


@pytest.fixture(params=IDS)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return load_protocol(request.param)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value of nested data that is not a container, and every empty container."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    items = list(items)
    if not items:
        yield path, value
    for key, item in items:
        yield from leaves(item, (*path, key))


def replaced(config: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy of `config` with another value at `path`."""

    def rebuild(node: Any, rest: tuple[Any, ...]) -> Any:
        if not rest:
            return value
        if isinstance(node, dict):
            return {**node, rest[0]: rebuild(node[rest[0]], rest[1:])}
        changed = list(node)
        changed[rest[0]] = rebuild(node[rest[0]], rest[1:])
        return type(node)(changed)

    return rebuild(config, path)


def other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"{value}x"


def test_every_protocol_of_every_track_loads_in_order() -> None:
    assert [protocol.id for protocol in all_protocols()] == IDS
    assert len({protocol.sha256 for protocol in all_protocols()}) == len(IDS)


def test_reference_repeats_the_header(protocol: Protocol) -> None:
    reference = protocol.reference()
    header = protocol.config["protocol"]
    assert {key: getattr(reference, key) for key in ("id", "version", "track", "task", "dataset", "headline")} == {
        key: header[key] for key in ("id", "version", "track", "task", "dataset", "headline")
    }
    assert reference.sha256 == protocol.sha256


def test_a_reader_finds_purpose_cost_and_metric(protocol: Protocol) -> None:
    text = protocol.config_file.read_text()
    assert protocol.summary.endswith(".")
    assert all(f"\n{word}: " in text for word in ("Purpose", "Cost", "Metric"))
    assert "_base_" not in text


def test_any_value_changes_the_hash(protocol: Protocol) -> None:
    config = dict(protocol.config)
    hashes = {hash_config(replaced(config, path, other(value))) for path, value in leaves(config)}
    assert len(hashes) == len(list(leaves(config)))
    assert protocol.sha256 not in hashes


def test_layout_comments_and_order_do_not_change_the_hash(protocol: Protocol, tmp_path: Path) -> None:
    config = dict(protocol.config)
    lines = [f"{name} = {config[name]!r}  # other words" for name in reversed(config)]
    file = tmp_path / "other.py"
    file.write_text('"""Another docstring."""\n\n' + "\n\n\n".join(lines))
    assert read_protocol(file).sha256 == protocol.sha256


def test_card_and_run_stand_as_slots(protocol: Protocol) -> None:
    model = protocol.config["model"]
    preprocessor, backbone = model["data_preprocessor"], model["backbone"]
    assert [preprocessor[key] for key in ("mean", "std", "bgr_to_rgb")] == ["card:mean", "card:std", "card:bgr_to_rgb"]
    assert (backbone["depth"], backbone["norm_cfg"]["type"]) == ("card:depth", "run:norm")
    receiver = model["neck"] if "neck" in model else model["decode_head"]
    assert str(receiver["in_channels"]).startswith("card:")
    for loader in ("train_dataloader", "test_dataloader"):
        assert protocol.config[loader]["dataset"]["data_root"] == "run:data_root"


def test_reading_all_protocols_is_light() -> None:
    code = (
        "import sys; from bench.protocols import all_protocols; all_protocols();"
        "print([m for m in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'numpy') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert answer.stdout.strip() == "[]"


def test_every_config_file_belongs_to_a_track() -> None:
    files = {path for path in CONFIGS.glob("*/*.py") if path.name != "__init__.py"}
    assert files == {protocol.config_file for protocol in all_protocols()}


def test_unknown_protocol_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BenchError, match="mini_voc_seg_fcn"):
        load_protocol("mini_voc_seg_fcm")


GOOD = (
    "protocol = dict(id='mini_x', version=1, track='mini', task='detection', dataset='d', headline='AP', plan=dict("
    "batch_size=1, iterations=1, learning_rate=0.1, final_learning_rate=0.1, norm_weight_decay=0.0))\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("protocol = dict(", "SyntaxError"),
        ("model = dict()", "has no `protocol"),
        (GOOD.replace("version=1, ", ""), "version"),
        (GOOD.replace("task='detection'", "task='guessing'"), "task"),
        (GOOD.replace("iterations=1, ", ""), "iterations"),
        (GOOD + "rate = float('nan')", "not JSON compliant"),
        (GOOD + "rate = float('inf')", "not JSON compliant"),
        (GOOD + "thing = object()", "config.thing is a object"),
        (GOOD + "import os", "config.os is a module"),
        (GOOD + "table = {1: 2}", "not text"),
    ],
)
def test_what_is_no_protocol_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(BenchError, match=message) as error:
        read_protocol(file)
    assert str(file) in str(error.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"absent\.py"):
        read_protocol(tmp_path / "absent.py")


def test_private_names_are_not_part_of_the_protocol(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(GOOD)
    plain = read_protocol(file).sha256
    file.write_text(GOOD + "_helper = object()")
    assert read_protocol(file).sha256 == plain


def test_numbers_and_text_are_not_confused() -> None:
    values: list[Any] = [1, 1.5, True, "1", None, "None", [1], {"1": 1}]
    assert len({canonical_json({"v": value}) for value in values}) == len(values)
    assert canonical_json({"v": (1, 2)}) == canonical_json({"v": [1, 2]})


def test_the_config_is_not_changed_by_hashing(protocol: Protocol) -> None:
    before = copy.deepcopy(dict(protocol.config))
    hash_config(protocol.config)
    assert dict(protocol.config) == before
