"""Upgrades records of earlier schema versions to the present one: pure functions on parsed JSON.

A version's function makes a record of the next version and knows nothing of later ones. What it cannot know is null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from leaderboard.base.errors import RecordError
from leaderboard.records.base import SCHEMA_VERSION

Values = Mapping[str, Any]
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_TERMS = {
    "ade20k": "ADE20K", "city": "Cityscapes", "coco": "COCO", "voc": "VOC", "fcn": "FCN", "fpn": "FPN", "c4": "C4",
    "frcnn": "Faster R-CNN", "mrcnn": "Mask R-CNN",
}  # fmt: skip


def upgrade_card(values: Values) -> Values:
    """The parsed card at the present schema version.

    Raises:
        RecordError: its version is missing or later than this code.
    """
    return _upgrade(values, {1: card_1_to_2})


def upgrade_result(values: Values) -> Values:
    """The parsed result, and the card in it, at the present schema version.

    Raises:
        RecordError: its version is missing or later than this code.
    """
    return _upgrade(values, {1: result_1_to_2})


def _upgrade(values: Values, steps: Mapping[int, Callable[[Values], Values]]) -> Values:
    version = values.get("schema_version")
    if type(version) is not int or version < 1:
        raise RecordError("schema_version: it must be there, and a whole number of at least 1")
    if version > SCHEMA_VERSION:
        raise RecordError(
            f"schema_version: {str(version)[:20]} is later than the {SCHEMA_VERSION} that this densebench reads; "
            "update densebench"
        )
    for step in range(version, SCHEMA_VERSION):
        values = steps[step](values)
    return values


def card_1_to_2(old: Values) -> Values:
    """Version 2 has American names, states what version 1 left implicit, and adds recipe hash, group, init, stages."""
    defaults: Values = {
        "stem": "7x7",
        "stride_style": "pytorch",
        "norm": "BN",
        "colour_order": "RGB",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "pretraining": {},
        "licence": None,
        "code_commit": None,
    }
    new = {**defaults, **old, "schema_version": 2}
    _rename(new, "colour_order", "color_order")
    _rename(new, "licence", "license")
    if new["norm"] == "LN":  # a ViT: version 1 had no value for it, so its card said `pytorch`
        new["stride_style"] = "none"
    if isinstance(new["pretraining"], dict):
        stated = (
            "recipe", "data", "data_fingerprint", "images", "epochs", "effective_batch", "crops", "image_views",
            "resolution", "seed", "labels",
        )  # fmt: skip
        added: Values = {"recipe_sha256": None, "group": None, "init": None, "stages": [], "cost": None, "copies": None}
        new["pretraining"] = {**dict.fromkeys(stated), **_added(new["pretraining"], added)}
        _clean(new["pretraining"], "recipe", "data", "crops", "labels")
    if isinstance(new.get("source"), dict):
        new["source"] = {"key_prefix": "", **new["source"]}
        _clean(new["source"], "format", "file")
    _clean(new, "method", "license", "code_commit")
    return new


def result_1_to_2(old: Values) -> Values:
    """The card's changes; titles from the protocol's id; self-reported. What version 1 did not have is empty."""
    defaults: Values = {"failure": None, "training": None, "seconds": {}, "peak_memory_mib": None}
    nothing: Values = {"sweep": None, "outputs": {}, "standard_errors": {}, "probe": None, "operations": None}
    new = {**defaults, **_added(old, {"verification": "self-reported", **nothing})}
    new["schema_version"] = 2
    if isinstance(new.get("card"), dict):
        if new["card"].get("schema_version", 1) != 1:
            raise RecordError("card.schema_version: it must be 1 in a result of version 1")
        new["card"] = card_1_to_2(new["card"])
    if isinstance(new.get("protocol"), dict):
        words = protocol_words(str(new["protocol"].get("id")), str(new["protocol"].get("track")))
        new["protocol"] = _added(new["protocol"], {"title": words[:120], "short_title": words[:60]})
        _clean(new["protocol"], "dataset", "headline")
    if isinstance(new.get("dataset"), dict):
        new["dataset"] = _added(new["dataset"], {"classes": None})
        _clean(new["dataset"], "name")
    if isinstance(new.get("environment"), dict):
        new["environment"] = {"code_commit": None, **new["environment"]}
        _clean(new["environment"], "device", "python", "code_commit")
    if isinstance(new["failure"], str):
        new["failure"] = new["failure"][:4000]
    if isinstance(new.get("finished_at"), str) and not re.search(r"(Z|[+-]\d\d:?\d\d)$", new["finished_at"]):
        new["finished_at"] += "Z"  # version 1 did not ask for a time zone, and its writer used UTC
    return new


def protocol_words(protocol: str, track: str) -> str:
    """`mini_voc_det_frcnn_fpn` in words, without its track: `VOC det Faster R-CNN FPN`."""
    words = " ".join(_TERMS.get(word, word) for word in protocol.removeprefix(f"{track}_").split("_")).strip()
    return words or protocol


def _added(values: Values, fields: Values) -> dict[str, Any]:
    """`values` with fields that are new in this version."""
    for name in fields:
        if name in values:
            raise RecordError(f"{name}: this field does not exist in schema version 1")
    return {**values, **fields}


def _rename(values: dict[str, Any], old: str, new: str) -> None:
    if new in values:
        raise RecordError(f"{new}: this field does not exist in schema version 1")
    values[new] = values.pop(old)


def _clean(values: dict[str, Any], *names: str) -> None:
    """Texts that version 1 did not check become one line of at most 200 characters; an empty text becomes None."""
    for name in names:
        text = values.get(name)
        if isinstance(text, str):
            values[name] = _CONTROLS.sub(" ", text).strip()[:200].rstrip() or None
