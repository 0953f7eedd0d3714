"""Values of a board in formats that other collections of results read.

`hf-eval`: the Hugging Face Hub's `.eval_results/*.yaml` of a model repository (documented as "Evaluation results").
`every-eval-ever`: JSON by the shared schema of the project Every Eval Ever, version 0.3.0.

Both hold a value for each protocol in the standings, its interval, and what the interval is over. Values on data of a
user's own are left out: nobody else could compare them.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

import yaml

from leaderboard import text, wording
from leaderboard.board import Board, Cell, Entry, Group
from leaderboard.errors import LeaderboardError
from leaderboard.stats import CONFIDENCE, Summary

Format = Literal["hf-eval", "every-eval-ever"]
Relationship = Literal["first_party", "third_party", "collaborative", "other"]
"""What those who evaluated have to do with the checkpoint: its authors, others, both together."""
SCHEMA_VERSION = "0.3.0"


@dataclass(frozen=True)
class Evaluator:
    """Who evaluated, as the files say it."""

    organization: str = ""
    """Name of the person or organization; `every-eval-ever` needs it."""
    relationship: Relationship = "other"
    benchmark: str = ""
    """The data set on the Hub that is registered as the benchmark, as OWNER/NAME; `hf-eval` needs it."""
    source: str = ""
    """Address of the results, such as a repository or a paper; may be empty."""


@dataclass(frozen=True)
class Value:
    """A row's value under one protocol of the standings."""

    group: Group
    cell: Cell
    summary: Summary

    @property
    def date(self) -> datetime:
        """When the last of its runs ended (UTC)."""
        return max(run.finished_at for run in self.cell.finished).astimezone(UTC)

    @property
    def notes(self) -> str:
        """The metric, the interval and everything that decides with which values this one may be compared."""
        summary, group = self.summary, self.group
        interval = summary.interval
        span = (
            "no interval"
            if interval is None
            else f"95 % interval {text.span(interval, 2)} over {_over(self.cell.entry, summary)}"
        )
        failed = f", {self.cell.failed} failed" * bool(self.cell.failed)
        copies = f"{found}; " if (found := wording.copies(self.cell)) else ""
        return (
            f"{group.protocol.headline} in per cent; {span}; {wording.runs(summary)}{failed}; "
            f"{wording.images(group.dataset)}; {copies}{group.architecture}; "
            f"protocol {group.protocol.sha256[:12]}, data {group.dataset.fingerprint[:12]}; "
            f"densebench {version('densebench')}"
        )


def exported(board: Board, format: Format, evaluator: Evaluator, names: frozenset[str] = frozenset()) -> dict[str, str]:
    """The files, by their relative path, of the submissions called `names`, or of all.

    The same board always gives the same bytes.

    Raises:
        LeaderboardError: the format needs something that `evaluator` does not say, a name has no row, or there is no
            value.
    """
    _require(format, evaluator)
    values = _values(board)
    unknown = names - {entry.label for entry in values}
    if unknown:
        labels = ", ".join(sorted(entry.label for entry in values)[:10])
        raise LeaderboardError(f"no submission {min(unknown)!r} has values; there are {labels or 'none'}")
    chosen = {entry: found for entry, found in values.items() if not names or entry.label in names}
    if not chosen:
        raise LeaderboardError("no result can be exported: none is finished, or all are on data of your own")
    if format == "hf-eval":
        return {f"{_path(e)}/.eval_results/densebench.yaml": _hub(found, evaluator) for e, found in chosen.items()}
    return dict(_shared(entry, found, evaluator) for entry, found in chosen.items())


def _require(format: Format, evaluator: Evaluator) -> None:
    if format == "hf-eval" and evaluator.benchmark.count("/") != 1:
        raise LeaderboardError(
            "the Hub shows values of data sets that are registered there as a benchmark: give --benchmark OWNER/NAME"
        )
    if format == "every-eval-ever" and not re.search("[A-Za-z0-9]", evaluator.organization):
        raise LeaderboardError("every-eval-ever names those who evaluated: give --organization NAME")


def _values(board: Board) -> dict[Entry, list[Value]]:
    """The values of each row, tracks and protocols in the board's order."""
    found: dict[Entry, list[Value]] = {}
    for track in board.tracks:
        for group in track.current:
            for cell in group.cells if group.dataset.classes is None else ():
                if cell.summary is not None:
                    found.setdefault(cell.entry, []).append(Value(group, cell, cell.summary))
    return found


def _path(entry: Entry) -> str:
    """A folder's name for a row; a label has the characters of a file name, and may have an @."""
    return entry.label.replace("@", "-")


def _over(entry: Entry, summary: Summary) -> str:
    return "the draw of the validation images" if summary.over == "images" else wording.source(entry, summary)


def _hub(values: list[Value], evaluator: Evaluator) -> str:
    source = {"source": {"url": evaluator.source, "name": "DenseBench"}} if evaluator.source else {}
    entries = [
        {
            "dataset": {"id": evaluator.benchmark, "task_id": value.group.protocol.id},
            "value": round(value.summary.mean, 4),
            "date": value.date.strftime("%Y-%m-%d"),
            **source,
            "notes": value.notes,
        }
        for value in values
    ]
    return str(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=1000))


def _shared(entry: Entry, values: list[Value], evaluator: Evaluator) -> tuple[str, str]:
    """Path and text of a row's file."""
    card, seen = entry.card, entry.card.pretraining
    last = max(value.date for value in values)
    developer = re.sub(r"[^A-Za-z0-9._-]+", "-", evaluator.organization).strip(".-")
    model = f"{developer}/{_path(entry)}"
    record = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"densebench/{model}/{int(last.timestamp())}",
        "evaluation_timestamp": last.isoformat(),
        "retrieved_timestamp": str(int(last.timestamp())),
        "source_metadata": {
            "source_name": "DenseBench",
            "source_type": "evaluation_run",
            "source_organization_name": text.one_line(evaluator.organization),
            **({"source_organization_url": evaluator.source} if evaluator.source else {}),
            "evaluator_relationship": evaluator.relationship,
        },
        "eval_library": {"name": "densebench", "version": version("densebench")},
        "model_info": {
            "name": entry.label,
            "id": model,
            "additional_details": _texts(
                deployment_type="self_deployed",
                model_availability="unknown",
                method=card.method,
                architecture=card.architecture,
                parameters=card.parameters,
                checkpoint_sha256=" ".join(one.sha256 for one in entry.cards),
                pretraining_recipe=seen.recipe,
                pretraining_data=seen.data,
                pretraining_labels=seen.labels,
                license=card.license,
            ),
        },
        "evaluation_results": list(_evaluations(values)),
    }
    content = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    number = uuid.UUID(bytes=hashlib.sha256(content.encode()).digest()[:16], version=4)
    return f"data/densebench/{model}/{number}.json", content


def _evaluations(values: list[Value]) -> Iterator[dict[str, Any]]:
    for value in values:
        group, summary = value.group, value.summary
        yield {
            "evaluation_name": group.protocol.title,
            "source_data": {
                "dataset_name": group.dataset.name,
                "source_type": "other",
                "additional_details": _texts(
                    fingerprint=group.dataset.fingerprint,
                    train_images=group.dataset.train_images,
                    val_images=group.dataset.val_images,
                ),
            },
            "evaluation_timestamp": value.date.isoformat(),
            "metric_config": {
                "evaluation_description": f"{group.protocol.headline} in per cent, protocol {group.protocol.id}",
                "metric_id": f"densebench.{group.protocol.id}",
                "metric_name": group.protocol.headline,
                "metric_unit": "percent",
                "lower_is_better": False,
                "score_type": "continuous",
                "min_score": 0,
                "max_score": 100,
                "additional_details": _texts(
                    protocol=group.protocol.id,
                    protocol_version=group.protocol.version,
                    protocol_sha256=group.protocol.sha256,
                    track=group.protocol.track,
                ),
            },
            "score_details": {
                "score": round(summary.mean, 4),
                "details": {
                    **{text.one_line(name): text.number(mean, 4) for name, mean in value.cell.metric_means.items()},
                    **_copies(value.cell),
                    "notes": value.notes,
                },
                **_uncertainty(value.cell.entry, summary),
            },
        }


def _uncertainty(entry: Entry, summary: Summary) -> dict[str, Any]:
    if summary.error is None or summary.interval is None:
        return {}
    low, high = summary.interval
    return {
        "uncertainty": {
            "standard_error": {"value": round(summary.error, 4), "method": f"over {_over(entry, summary)}"},
            "confidence_interval": {
                "lower": round(low, 4),
                "upper": round(high, 4),
                "confidence_level": CONFIDENCE,
                "method": f"Student t over {_over(entry, summary)}",
            },
            **({} if summary.sd is None else {"standard_deviation": round(summary.sd, 4)}),
        }
    }


def _copies(cell: Cell) -> dict[str, str]:
    """How many copies of test images are among the pretraining images, also none; empty where nobody searched."""
    found = cell.copies
    return {} if found is None else {"copies_of_test_images": f"{found.copies} of {found.tested}"}


def _texts(**facts: Any) -> dict[str, str]:
    """The known facts as text, which the schema asks for."""
    return {name: text.one_line(str(fact)) for name, fact in facts.items() if fact is not None}
