"""The pages of the documentation that follow from the code: methods, protocols, formats, commands, CSV columns."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from inspect import cleandoc
from pathlib import Path
from sys import modules

from bench.checkpoints.formats import FORMATS, Format
from bench.cli import app
from bench.markdown import markdown_table
from bench.protocol_table import paper_protocols_markdown
from bench.protocol_text import as_python
from bench.protocols import Protocol, load_protocol
from bench.tracks import TRACKS, Track
from leaderboard.frame import COLUMNS
from pretrain.method import Method
from pretrain.methods import METHODS, all_recipes, method_of
from pretrain.recipes import Recipe

ROOT = Path(__file__).resolve().parents[1]


def write(folder: Path) -> None:
    """Write all generated pages into `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in generated().items():
        file = folder / f"{name}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def generated() -> dict[str, str]:
    """The Markdown of each generated page, by its name (a path without the ending)."""
    recipes = all_recipes().values()
    protocols = [load_protocol(id_) for track in TRACKS for id_ in (*track.protocols, *track.further)]
    return {
        "methods": methods_page(METHODS),
        **{f"methods/{m.info.id}": method_page(m, [r for r in recipes if method_of(r) is m]) for m in METHODS},
        "protocols": protocols_page(TRACKS),
        "paper": _page("The protocols of track paper side by side", paper_protocols_markdown()),
        **{f"protocols/{protocol.id}": protocol_page(protocol) for protocol in protocols},
        "formats": formats_page(FORMATS),
        "columns": columns_page(),
        "commands": commands_page(),
    }


def methods_page(methods: Sequence[type[Method]]) -> str:
    """The table of all methods, each with its own page."""
    rows = [[f"[{m.info.name}](methods/{m.info.id}.md)", *_choices(m), m.info.fidelity] for m in methods]
    return _page(
        "Methods",
        f"DenseBench pretrains with {len(methods)} methods. `unit` is what is compared, `partner` what it is compared "
        "with.",
        "Fidelity: `code` was checked against the authors' code, `paper` against the paper alone; a `reconstruction` "
        "rests on a paper that leaves things open. The page of each method says what is uncertain.",
        markdown_table(["method", "unit", "partner", "loss", "second network", "negatives", "fidelity"], rows),
        _contents(f"methods/{m.info.id}" for m in methods),
    )


def method_page(method: type[Method], recipes: Sequence[Recipe]) -> str:
    """What a method is, its equations, how far it was checked, and its recipes."""
    info = method.info
    source = modules[method.__module__].__doc__ or ""
    rows = [[f"`{r.name}`", r.backbone, str(r.epochs), str(r.batch_size), r.data, r.expected, r.cost] for r in recipes]
    table = markdown_table(["recipe", "backbone", "epochs", "batch", "data", "expected", "cost"], rows)
    uncertain = [f"* {point}" for point in info.uncertain] or ["Nothing is known to differ from the source."]
    return _page(
        info.name,
        f"Id `{info.id}`, {info.paper}, fidelity `{info.fidelity}`.",
        _markdown(source),
        "## Equations",
        _markdown(method.__doc__ or ""),
        "## What is uncertain",
        "\n".join(uncertain),
        "## Recipes",
        table,
        f"```sh\ndensebench pretrain {recipes[0].name} --data images/\n```" if recipes else "",
    )


def protocols_page(tracks: Sequence[Track]) -> str:
    """The tracks with their rules, and their protocols."""
    parts = ["Protocols are data with a hash: only results with equal hash and equal data are compared."]
    for track in tracks:
        parts += [f"## Track {track.id}", track.purpose, "\n".join(f"* {rule}" for rule in track.rules)]
        for heading, ids in (("Standings", track.protocols), ("Further protocols", track.further)):
            rows = [[f"[{p.title}](protocols/{p.id}.md)", p.dataset, p.headline] for p in map(load_protocol, ids)]
            parts += [
                f"### {heading} of track {track.id}",
                markdown_table(["protocol", "data set", "metric"], rows),
            ] * bool(ids)
    contents = _contents(f"protocols/{id_}" for track in tracks for id_ in (*track.protocols, *track.further))
    return _page("Protocols", *parts, contents)


def protocol_page(protocol: Protocol) -> str:
    """What a protocol is for, and every value of it."""
    first, _, rest = protocol.docstring.partition("\n")
    config = as_python(protocol).rpartition('"""\n')[2].replace(f"{ROOT}/", "").strip()
    return _page(
        protocol.title,
        f"Id `{protocol.id}`, version {protocol.version}, sha256 `{protocol.sha256}`.",
        f"```sh\ndensebench submit CHECKPOINT --name NAME --data DATA --protocol {protocol.id}\n```",
        _markdown(first),
        re.sub(r"^([A-Z][\w ]*\w)(?=(?: \([^\n]*?\))?: )", r"\n**\1**", _markdown(rest), flags=re.MULTILINE),
        "## Every value",
        f"```python\n{config}\n```",
    )


def formats_page(formats: Sequence[Format]) -> str:
    """Whose checkpoints are known by name."""
    rows = [[_escaped(f.name), f"`{f.keys}`", _escaped(f.network), f.license, _escaped(f.source)] for f in formats]
    return _page(
        "Checkpoints that are known by name",
        "Other files are imported, too: a backbone is found under any prefix of its tensors' names, and by the naming "
        "of its layers. `densebench inspect FILE` says what a file holds and writes nothing.",
        markdown_table(["whose", "a tensor's name", "authors evaluate", "license", "where this was read"], rows),
    )


def columns_page() -> str:
    """The columns of the leaderboard's CSV."""
    rows = [[f"`{name}`", kind, _escaped(meaning)] for name, (kind, meaning) in COLUMNS.items()]
    return _page(
        "Columns of the leaderboard's CSV",
        "A row is a submission under one protocol. A list is separated by `;`, and what is not known is empty. "
        "`densebench.leaderboard()` gives the same columns as a pandas DataFrame.",
        markdown_table(["column", "type", "meaning"], rows),
    )


def commands_page() -> str:
    """Every command with its options, as its `--help` says."""
    text = app.generate_docs().partition("\n")[2]
    return _page("Commands", re.sub(r"^## Table of Contents\n.*?(?=^\*\*)", "", text, flags=re.MULTILINE | re.DOTALL))


def _choices(method: type[Method]) -> list[str]:
    info = method.info
    return [info.unit, info.partner, info.loss, info.second_network, info.negatives]


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *(part.strip("\n") for part in parts if part)]) + "\n"


def _contents(names: Iterable[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])


def _markdown(docstring: str) -> str:
    """A docstring as Markdown: what is indented are equations, shown as they stand; names in backticks are code."""
    lines = cleandoc(docstring).split("\n")
    return "\n".join(line if line.startswith("    ") else _escaped(line) for line in lines)


def _escaped(text: str) -> str:
    """Text for Markdown, in which backticks alone have a meaning."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_\[\]<>$])", r"\\\1", part) for part in parts)
