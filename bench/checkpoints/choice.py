"""Which network of a file is imported when it has several, and why.

The words in the prefixes say what a network is: trained (`q`, `query`, `online`, `student`), a momentum copy (`k`,
`key`, `momentum`, `target`, `teacher`, `ema`), or neither. The network that the authors evaluate is preferred. That is
the trained one, then an unmarked one; but where there are a student and a teacher (DINO, iBOT, EsViT), and in the
files of SlotCon, I-JEPA and MSN, it is the momentum copy. A teacher that is no copy of its student (distillation) is a
problem. The caller may name another prefix.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bench.checkpoints.layouts import Candidate
from bench.errors import BenchError
from leaderboard.base.printable import printable_name

MOST_NETWORKS = 64
"""Most networks of one file among which the rule chooses."""
_ONLINE = {"q", "query", "online", "student"}
_MOMENTUM = {"k", "key", "momentum", "target", "teacher", "ema", "swa", "averaged"}
_SLOTCON = re.compile(r"(^|\.)(grouping_k|predictor_slot)\.")
_IJEPA = re.compile(r"(^|\.)predictor\.(module\.)?predictor_pos_embed$")
_MSN = re.compile(r"^(target_encoder\.|prototypes$)")
_STUDENT = re.compile(r"(^|\.)student\.")


@dataclass(frozen=True)
class Choice:
    """The network that is imported, and why."""

    chosen: Candidate
    others: tuple[Candidate, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def role(candidate: Candidate) -> str:
    """Role of a network by the words in its prefix: `online`, `unmarked` or `momentum`."""
    words = _words(candidate)
    if words & _MOMENTUM:
        return "momentum"
    return "online" if words & _ONLINE else "unmarked"


def choose(candidates: list[Candidate], prefix: str | None, names: Collection[str] = ()) -> Choice:
    """Pick one of the networks; `prefix` (as in the file, with or without final dot) overrides the rule.

    Complete networks are preferred to incomplete ones, then the roles decide (see the module's docstring). Two
    different networks of the same rank, or an incomplete network and a complete one of a lower rank, are problems: the
    file alone cannot say which one is meant. `names` are all tensors of the file.

    Raises:
        BenchError: no network, or several, have the given prefix, or there are too many to choose from.
    """
    if prefix is not None:
        return _choose_named(candidates, prefix)
    if len(candidates) > MOST_NETWORKS:
        raise BenchError(
            f"{len(candidates)} networks lie in the file, the first {candidates[0].label}; choose one with --prefix"
        )
    roles, reason = _ranks(candidates, names)
    whole = {id(candidate): candidate.whole() for candidate in candidates}
    ranked = sorted(candidates, key=lambda c: (not whole[id(c)], roles.index(role(c)), -len(c.tensors)))
    chosen, others = ranked[0], tuple(ranked[1:])
    distilled = _distilled(chosen, candidates, names)
    notes, problems = [], list(distilled)
    for other in others:
        if not whole[id(other)]:
            if whole[id(chosen)] and roles.index(role(other)) < roles.index(role(chosen)):
                copy = "momentum copy " if role(chosen) == "momentum" else ""
                problems.append(
                    f"the {'trained ' if copy else ''}network {other.label} is incomplete while its {copy}"
                    f"{chosen.label} is whole: the file may be damaged; to import the {'copy' if copy else 'other'}, "
                    f"say {_option(chosen)}"
                )
        elif chosen.equals(other):
            notes.append(f"{other.label} holds the same weights as {chosen.label}")
        elif role(other) == role(chosen):
            problems.append(
                f"{chosen.label} and {other.label} are two different networks and neither is marked as the trained "
                f"one: choose with {_option(chosen)} or {_option(other)}"
            )
        elif not distilled:
            notes.append(
                f"{chosen.label} ({role(chosen)}) was chosen before {other.label} ({role(other)}): {reason}; "
                f"to take the other, say {_option(other)}"
            )
    return Choice(chosen, others, tuple(notes), tuple(problems))


def _ranks(candidates: list[Candidate], names: Collection[str]) -> tuple[tuple[str, str, str], str]:
    """The roles in the order in which they are preferred, and why."""
    words = set[str]().union(*map(_words, candidates))
    if {"student", "teacher"} <= words:
        return ("momentum", "unmarked", "online"), "the authors of DINO, iBOT and EsViT evaluate the teacher"
    if any(_SLOTCON.search(name) for name in names):
        return ("momentum", "unmarked", "online"), "the authors of SlotCon transfer the momentum network"
    if any(_IJEPA.search(name) for name in names):
        return ("momentum", "unmarked", "online"), "the authors of I-JEPA evaluate the target encoder"
    if {match[1] for name in names if (match := _MSN.match(name))} == {"target_encoder.", "prototypes"}:
        return ("momentum", "unmarked", "online"), "the authors of MSN evaluate the target encoder"
    return ("online", "unmarked", "momentum"), "the trained network is what MoCo, BYOL and most others evaluate"


def _distilled(chosen: Candidate, candidates: Sequence[Candidate], names: Collection[str]) -> list[str]:
    """The problem of a teacher beside which there is no student of its architecture, so that it is no copy of one."""
    if "teacher" not in _words(chosen) or not any(_STUDENT.search(name) for name in names):
        return []
    students = [candidate for candidate in candidates if "student" in _words(candidate)]
    if any(student.nearest().name == chosen.nearest().name for student in students):
        return []
    kinds = ", ".join(student.nearest().name for student in students[:4]) or "another network"
    options = " or ".join(map(_option, (*students[:4], chosen)))
    return [
        f"the teacher {chosen.label} is a {chosen.nearest().name} and the student {kinds}: it is no momentum copy, as "
        f"DINO's is, but may be what the student was distilled from; choose with {options}"
    ]


def _words(candidate: Candidate) -> set[str]:
    prefix = candidate.full_prefix.lower().replace("moco_encoder", "momentum")  # VISSL's
    return set(re.split(r"[._\d]+", prefix))


def _option(candidate: Candidate) -> str:
    return f"--prefix {printable_name(candidate.full_prefix)!r}"


def _choose_named(candidates: list[Candidate], prefix: str) -> Choice:
    wanted = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
    fitting = [c for c in candidates if c.full_prefix == wanted] or [c for c in candidates if c.prefix == wanted]
    more = f" and {len(candidates) - 8} more" if len(candidates) > 8 else ""
    known = ", ".join(repr(printable_name(c.full_prefix)) for c in candidates[:8]) + more
    if not fitting:
        raise BenchError(f"no network has the prefix {prefix!r}; the file has {known}")
    if len(fitting) > 1:
        raise BenchError(f"several networks have the prefix {prefix!r}; give one of {known}")
    others = tuple(candidate for candidate in candidates if candidate is not fitting[0])
    return Choice(fitting[0], others, (f"{fitting[0].label} was chosen by the caller",), ())
