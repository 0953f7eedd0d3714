"""A checkpoint as a user names it: an exported folder, or anything that the importer can convert into one."""

from __future__ import annotations

import re
from pathlib import Path

from bench.checkpoints.importing import import_checkpoint
from pretrain.exported import is_exported

ENDINGS = re.compile(r"(\.(pth|pt|tar|ckpt|safetensors|bin|pkl))+$")


def submission_name(checkpoint: str) -> str:
    """A name for an imported checkpoint: its file name without the ending, in the characters that names may have."""
    path = Path(checkpoint)
    own = ENDINGS.sub("", path.name)
    if own in ("export", "backbone"):  # `densebench export` gives these names to every folder and file
        own = path.resolve().parent.name
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", own).lstrip("._+-")[:60] or "checkpoint"


def exported_folder(checkpoint: str, name: str, work: Path) -> Path:
    """The exported folder `checkpoint`, or the one into which the importer converts it."""
    folder = Path(checkpoint)
    return folder if is_exported(folder) else import_checkpoint(checkpoint, name=name, work=work)
