"""What the documentation tells its readers to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of a language in a document."""
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of each `densebench` command in lines of a shell."""
    lines = text.replace("\\\n", " ").split("\n")
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[line.index("densebench") + 1 :] for line in words if "densebench" in line[:8] and line[0] != "pip"]
