"""The backbone that is written in another library's form: of a run, or of a folder that was exported before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.errors import BenchError
from pretrain.export import export
from pretrain.exported import ExportedBackbone, check_name, is_exported, read_exported


@dataclass(frozen=True)
class Source:
    """A backbone in memory, and what became of the folder that holds it."""

    exported: ExportedBackbone
    folder: Path
    """The exported folder, or where the run's is by default."""
    written: bool = False
    """Whether the run was exported into `folder` now."""
    kept: bool = False
    """Whether `folder` held an export of the run before, which was neither read nor changed."""


def read_source(run: Path, *, also_export: bool, name: str | None = None, unfinished: bool = False) -> Source:
    """The backbone of the run folder, or exported folder, `run`, whose card has `name` if it is given.

    An export that is there may have a name of its own or be of an earlier checkpoint, so it is never replaced: only
    with `also_export`, and where `run`/export is missing, the run's backbone is also left there.

    Raises:
        BenchError: `unfinished` is said of an exported folder.
        PretrainError: `run` cannot be exported or read, or `name` is not valid.
        FileError: the folder cannot be written.
    """
    if is_exported(run):
        if unfinished:
            raise BenchError(f"--unfinished is of runs: {run} is exported already, so give the folder of its run")
        exported = read_exported(run)
        if name is not None:
            check_name(name)
            exported = replace(exported, card=exported.card.model_copy(update={"name": name}))
        return Source(exported, run.resolve() if run.name in ("", "..") else run)
    folder = run / "export"
    there = is_exported(folder)
    if also_export and not there:
        return Source(read_exported(export(run, folder, name=name, unfinished=unfinished)), folder, written=True)
    with TemporaryDirectory() as temporary:
        exported = read_exported(export(run, Path(temporary), name=name, unfinished=unfinished))
    return Source(replace(exported, folder=folder), folder, kept=also_export and there)
