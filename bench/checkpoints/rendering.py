"""An `Inspection` as tables for a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.checkpoints.inspection import Inspection
from pretrain.nets.architectures import find_architecture, forward_operations


def render(inspection: Inspection, *, verbose: bool = False) -> Group:
    """Facts, match table (one line per stage; per tensor if `verbose`), unused tensors, notes, and the verdict."""
    parts: list[RenderableType] = [_facts(inspection)]
    if inspection.rows:
        parts.append(_tensors(inspection) if verbose else _stages(inspection))
    if inspection.left_over:
        parts.append(_left_over(inspection, verbose=verbose))
    parts.extend(Text(remark, style="yellow" if remark.startswith("warning") else "") for remark in inspection.remarks)
    parts.extend(Text(f"problem: {problem}", style="bold red") for problem in inspection.problems)
    if inspection.problems:
        parts.append(Text("cannot be imported", style="bold red"))
    else:
        parts.append(Text(f"can be imported as {inspection.architecture}: every tensor is filled", style="bold green"))
    return Group(*parts)


def _facts(inspection: Inspection) -> Table:
    table = Table.grid(padding=(0, 2))
    found = inspection.format or "not recognised"
    architecture: str = inspection.architecture or "not recognised"
    if inspection.architecture and inspection.problems:
        architecture = f"not matched; nearest is {architecture}"
    size = f"{inspection.bytes / 2**20:.1f} MiB"
    rows = [
        ("file", f"{inspection.path} ({inspection.container}, {size})"),
        ("sha256", inspection.sha256),
        ("format", found),
    ]
    if inspection.written_by:
        rows.append(("as written by", inspection.written_by))
    if inspection.format:
        rows.append(("state dict", f"under `{inspection.location}`" if inspection.location else "bare"))
        rows.append(("prefix", f"`{inspection.prefix}`" if inspection.prefix else "none"))
    rows.append(("architecture", architecture))
    if inspection.parameters and not inspection.problems:
        side, operations = find_architecture(architecture).input_size, forward_operations(architecture) / 1e9
        rows.append(("parameters", f"{inspection.parameters:,} (backbone)"))
        rows.append(("operations", f"{operations:.1f} GFLOP, forward, for an image of {side} x {side}"))
    for label, value in rows:
        table.add_row(Text(label, style="bold"), Text(value))
    return table


def _stages(inspection: Inspection) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("part", "tensors", "filled", "missing", "wrong shape"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for stage in dict.fromkeys(row.stage for row in inspection.rows):
        # BN counters, which a file may lack, would make a complete stage look incomplete.
        rows = [row for row in inspection.rows if row.stage == stage and row.status != "absent, not needed"]
        counts = [sum(row.status == status for row in rows) for status in ("filled", "missing", "wrong shape")]
        style = "red" if counts[0] < len(rows) else ""
        table.add_row(stage, str(len(rows)), *map(str, counts), style=style)
    return table


def _tensors(inspection: Inspection) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("backbone tensor", "shape", "status", "from", "type"):
        table.add_column(heading, overflow="fold")
    for row in inspection.rows:
        found = "" if row.status != "wrong shape" or row.found_shape is None else f" {_shape(row.found_shape)}"
        table.add_row(
            row.name,
            _shape(row.shape),
            Text(row.status + found),
            Text(row.source or ""),
            row.dtype or "",
            style="red" if row.status in ("missing", "wrong shape") else "",
        )
    return table


def _left_over(inspection: Inspection, *, verbose: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("not imported")
    table.add_column("tensors", justify="right")
    table.add_column("names", overflow="fold")
    for group in inspection.left_over:
        names = group.names if verbose else group.names[:2]
        more = "" if len(names) == len(group.names) else ", ..."
        table.add_row(Text(group.what), str(len(group.names)), Text(", ".join(names) + more))
    return table


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) if shape else "scalar"
