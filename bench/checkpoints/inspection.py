"""Recognize a checkpoint and match it, tensor by tensor, with the backbone that it should fill. No side effects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from bench.checkpoints.choice import choose
from bench.checkpoints.containers import Container, Leaf, read_container
from bench.checkpoints.conventions import conventions
from bench.checkpoints.families import Architecture, optional
from bench.checkpoints.folders import INDEX, weights_of
from bench.checkpoints.formats import IMAGENET_STD, recognize
from bench.checkpoints.hub import Declared, declared, fitted
from bench.checkpoints.layouts import LAYOUTS, Candidate, find_candidates, find_named
from bench.checkpoints.leftovers import UNEXPLAINED, LeftOver, classify
from bench.checkpoints.mismatch import foreign, summarise
from bench.checkpoints.timm_namings import declared_layouts
from bench.checkpoints.values import check_values
from bench.errors import BenchError
from leaderboard.base.printable import printable_name
from leaderboard.records import Card
from pretrain.errors import PretrainError
from pretrain.exported import CARD, WEIGHTS, is_exported, read_card
from pretrain.nets.architectures import ViTArchitecture, find_architecture

_SHARD = re.compile(r"-0*(\d{1,5})-of-0*(\d{1,5})\.[a-z]+$")
"""Matches the ending of the names that Hugging Face gives to the parts of a large checkpoint."""
Status = Literal["filled", "absent, not needed", "missing", "wrong shape"]


@dataclass(frozen=True)
class Row:
    """One tensor of the expected backbone and what fills it."""

    name: str
    """Name in the exported form: torchvision's for ResNets, timm's for ViTs."""
    shape: tuple[int, ...]
    """The expected shape."""
    status: Status
    source: str | None = None
    """Full name of the tensor in the file, or the names of its parts; None if there is none."""
    found_shape: tuple[int, ...] | None = None
    dtype: str | None = None
    stage: str = ""
    """The part of the network in which it lies."""


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint file is. It can be imported if and only if `problems` is empty."""

    path: Path
    sha256: str
    """Hash of the file."""
    bytes: int
    container: str
    """Kind of file, e.g. `safetensors`, `torch zip` or `torch legacy`."""
    format: str | None
    """Naming style of the layers; None if no known network was found."""
    written_by: str | None
    """The method or library whose files have this form (see `formats`); None if it is not known."""
    location: str
    """The dictionaries around the state dict (`state_dict`); empty for a bare one."""
    prefix: str
    """Prefix of the network's names in the state dict, e.g. `module.encoder_q.` before `conv1.weight`."""
    architecture: str | None
    """Nearest supported architecture; only without problems is it the architecture of the file."""
    parameters: int | None
    """Number of learnable parameters of that architecture, without classifier and heads."""
    input: Mapping[str, tuple[float, float, float]]
    """The `mean` and `std` that the format or a configuration next to the file implies, where not ImageNet's."""
    rows: tuple[Row, ...]
    left_over: tuple[LeftOver, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def filled(self) -> int:
        """Number of expected tensors that the file fills."""
        return sum(row.status == "filled" for row in self.rows)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes as they are shown: a warning as it is, the others as `note: ...`."""
        return tuple(note if note.startswith("warning: ") else f"note: {note}" for note in self.notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "path": str(self.path), "filled": self.filled, "importable": not self.problems}


def inspect_checkpoint(path: Path, *, prefix: str | None = None, architecture: str | None = None) -> Inspection:
    """Recognize the file (or the folder that `export` wrote) and match it with its backbone.

    Args:
        path: a safetensors or torch file, or a folder with `backbone.safetensors`.
        prefix: which network of the file is meant, where the rule of `layouts` would pick another.
        architecture: name of the network, where several have the same tensors.

    Raises:
        BenchError: the file cannot be read as a checkpoint at all, or has no network with this prefix or of this
            architecture. A readable file that does not match gives an `Inspection` with `problems`.
    """
    return read_backbone(path, prefix=prefix, architecture=architecture)[0]


def read_backbone(
    path: Path, *, prefix: str | None = None, architecture: str | None = None
) -> tuple[Inspection, Mapping[str, Tensor]]:
    """Return what `inspect_checkpoint` does, and for each filled row the file's tensor (joined, in its own type) by
    exported name."""
    path = Path(path)
    if _is_folder(path):
        path = weights_of(path)
    container = read_container(path)
    try:
        card = _card(path)
        beside = declared(path) if card is None else _declared_by(card, architecture)
        if architecture is not None:
            candidates = find_named(container.leaves, _known(architecture))
        else:
            candidates = find_candidates(container.leaves, declared_layouts(beside.architecture) or LAYOUTS)
        if not candidates:
            if prefix is not None:
                raise BenchError(f"no network was found, so there is no prefix {prefix!r}")
            return _foreign(container), {}
        choice = choose(candidates, prefix, container.leaves)
    except BenchError as error:
        raise BenchError(f"{path}: {error}") from error
    chosen = choice.chosen
    expected, said, unlike = fitted(chosen.nearest(), beside, named=chosen.named is not None)
    rows = _match(chosen, expected)
    used = {origin for row in rows for origin in chosen.origins(row.name)}
    left_over = classify((name for name in container.leaves if name not in used), choice)
    filled = {row.name: chosen.tensors[row.name] for row in rows if row.status == "filled"}
    value_notes, value_problems = check_values(filled)
    siblings = [n[len(chosen.full_prefix) :] for n in container.leaves if n.startswith(chosen.full_prefix)]
    fit = _fit_problems(chosen, siblings, expected, rows, left_over)
    form = recognize(chosen.layout.name, container.leaves)
    method = form.name if form is not None else None
    undecided = [] if fit or chosen.named or beside.heads else chosen.family.undecided(expected, method)
    implied = {"std": form.std} if form is not None and form.std != IMAGENET_STD else {}
    inspection = Inspection(
        path=path,
        sha256=container.sha256(),
        bytes=container.bytes,
        container=container.kind,
        format=chosen.layout.name,
        written_by=method,
        location=chosen.location,
        prefix=chosen.prefix,
        architecture=expected.name,
        parameters=expected.parameters,
        input=implied | dict(beside.input),
        rows=rows,
        left_over=left_over,
        notes=(
            *(*_ours(path, card), *container.notes, *choice.notes, *value_notes),
            *(*conventions(chosen, expected, left_over, implied, said), *beside.notes),
        ),
        problems=(
            *(*_shard(path), *choice.problems, *_odd(chosen), *fit, *value_problems),
            *(*beside.problems, *unlike, *undecided),
            *(*_caffe(container.leaves), *_unused(chosen, container.leaves)),
        ),
    )
    return inspection, filled


def _card(path: Path) -> Card | None:
    """The card next to the weights."""
    return read_card(path.parent) if path.name == WEIGHTS and is_exported(path.parent) else None


def _ours(path: Path, card: Card | None) -> Iterator[str]:
    """What files of our own next to the weights tell of them."""
    if card is not None:
        yield f"{CARD} says what it is and is taken over: {printable_name(card.name)}, {printable_name(card.method)}"
    elif (path.parent / "run.json").is_file():
        yield (
            "it is of a pretraining run: `densebench export` of its folder writes the backbone with a card, which says "
            "method, data and normalization"
        )


def _declared_by(card: Card, named: str | None) -> Declared:
    """What a card says of the network.

    Next to a card the caller can name no other network: recipe, mean and std of the card are those of its own.
    """
    try:
        found = find_architecture(card.architecture)
    except PretrainError:  # a false card, which the import refuses
        return Declared({}, architecture=card.architecture)
    problems: tuple[str, ...] = ()
    if named is not None and _known(named) != found.name:
        problems = (
            f"{CARD} says {found.name}, --architecture says {_known(named)}: leave it out, or give it with the file "
            f"that the card was made for, or with a copy of {WEIGHTS} in a folder without {CARD}",
        )
    heads = found.heads if isinstance(found, ViTArchitecture) else None
    return Declared({}, problems=problems, architecture=card.architecture, heads=heads)


def _known(architecture: str) -> str:
    """The one name of an architecture.

    Raises:
        BenchError: it is not known.
    """
    try:
        return find_architecture(architecture).name
    except PretrainError as error:
        raise BenchError(str(error)) from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror})") from error


def _foreign(container: Container) -> Inspection:
    return Inspection(
        path=container.path,
        sha256=container.sha256(),
        bytes=container.bytes,
        container=container.kind,
        format=None,
        written_by=None,
        location="",
        prefix="",
        architecture=None,
        parameters=None,
        input={},
        rows=(),
        left_over=(LeftOver("no known network", tuple(container.leaves)),),
        notes=(),
        problems=(*_shard(container.path), foreign(container.leaves, container.top_level)),
    )


def _match(chosen: Candidate, expected: Architecture) -> tuple[Row, ...]:
    rows = []
    for name, shape in expected.shapes.items():
        tensor, stage = chosen.tensors.get(name), chosen.family.stage(name)
        if tensor is None:
            rows.append(Row(name, shape, "absent, not needed" if optional(name) else "missing", stage=stage))
            continue
        found = tuple(tensor.shape)
        fits = found == shape or (optional(name) and tensor.numel() == 1)
        dtype = str(tensor.dtype).removeprefix("torch.")
        source = " + ".join(chosen.origins(name))
        rows.append(Row(name, shape, "filled" if fits else "wrong shape", source, found, dtype, stage))
    return tuple(rows)


def _fit_problems(
    chosen: Candidate,
    siblings: list[str],
    expected: Architecture,
    rows: tuple[Row, ...],
    left_over: tuple[LeftOver, ...],
) -> list[str]:
    missing = [row.name for row in rows if row.status == "missing"]
    wrong = {row.name: row.found_shape for row in rows if row.status == "wrong shape" and row.found_shape is not None}
    unexplained = [name for group in left_over if group.what == UNEXPLAINED for name in group.names]
    if not (missing or wrong or unexplained):
        return []
    family = chosen.family
    problems = family.explain(chosen.tensors, siblings, expected, missing, wrong)
    needed = [row for row in rows if not optional(row.name)]
    filled = sum(row.status == "filled" for row in needed)
    if missing:
        whole = family.has_all_blocks(chosen.tensors, expected) and not problems
        kind = "half-saved or half-renamed file: " if whole else ""
        problems.append(
            f"{kind}{filled} of {len(needed)} tensors of {expected.name} are filled{family.not_counted}; "
            f"{len(missing)} missing: {summarise(missing, family)}"
        )
    for name, shape in list(wrong.items())[:1]:
        problems.append(
            f"{len(wrong)} tensor(s) have another shape than {expected.name}'s: `{name}` is {shape}, "
            f"expected {expected.shapes[name]}"
        )
    if unexplained:
        shown = ", ".join(f"`{printable_name(name)}`" for name in unexplained[:3])
        problems.append(
            f"{len(unexplained)} tensor(s) look like parts of the backbone that {expected.name} lacks: "
            f"{shown}{', ...' if len(unexplained) > 3 else ''}"
        )
    return problems


def _shard(path: Path) -> list[str]:
    found = _SHARD.search(path.name)
    if not found or found[2] == "1":
        return []
    return [f"shard {found[1]} of {found[2]} of a checkpoint: give the folder, or its index (...{INDEX})"]


def _caffe(leaves: Mapping[str, Leaf]) -> list[str]:
    """Problem of a Caffe network (MSRA): detectors of detectron2 store their input's std, which is 1 for these."""
    std = next((leaf for name, leaf in leaves.items() if name.rpartition(".")[2] == "pixel_std"), None)
    if std is None or std.tensor.numel() != 3 or not bool((std.tensor == 1).all()):
        return []
    return [
        f"a network of Caffe (MSRA), as `{printable_name(std.name)}` of 1 shows: the stride is on the first 1x1 "
        "convolution of its blocks, which our ResNets cannot express"
    ]


def _unused(chosen: Candidate, leaves: Mapping[str, Leaf]) -> list[str]:
    """Problems that tensors among the network's show although it does not use them."""
    unused, start = chosen.family.unused, len(chosen.full_prefix)
    own = {name[start:]: leaf.tensor for name, leaf in leaves.items() if name.startswith(chosen.full_prefix)}
    return chosen.family.check_unused({name: t for name, t in own.items() if unused and unused.search(name)})


def _odd(chosen: Candidate) -> list[str]:
    if not chosen.odd:
        return []
    name, what = next(iter(chosen.odd.items()))
    return [f"{len(chosen.odd)} tensor(s) have no plain values: `{printable_name(name)}` is {what}"]
