"""Commands of protocols: what there is, and what one of them says in full."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter

from bench.cli.common import EVALUATE, AsJson, app, print_json, print_table
from leaderboard.base.terminal import Console

protocols_app = App(name="protocols", group=EVALUATE)
app.command(protocols_app)


@protocols_app.default
def protocols(
    *,
    as_json: AsJson = False,
    markdown: Annotated[bool, Parameter(negative="")] = False,
    hours: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """List the tracks with their rules, and the protocols: how a backbone is evaluated.

    A track's further protocols run where `submit --protocol` names them and have a table of their own.
    Protocols of installed packages are listed after the built-in ones; their code is executed for it.

    Example: densebench protocols

    Parameters
    ----------
    markdown
        Print the protocols of track paper as Markdown tables instead: how each was tested, what differs from the
        papers, GPU-hours, published values.
    hours
        Print instead the GPU-hours of one checkpoint over the whole of tracks paper and fair, the sweeps included.
    """
    if hours:
        from bench.gpu_hours import HEADINGS, NOTE, hours_rows

        print_table("GPU-hours for one checkpoint", list(HEADINGS), hours_rows())
        print(NOTE)
        return 0
    if markdown:
        from bench.protocol_table import paper_protocols_markdown

        print(paper_protocols_markdown(), end="")
        return 0
    from bench.errors import BenchError
    from bench.not_offered import NOT_OFFERED
    from bench.protocols import all_protocols, installed_ids, load_protocol
    from bench.tracks import TRACKS

    listed, problems = all_protocols(), list[str]()
    for name in installed_ids():
        try:
            listed.append(load_protocol(name))
        except BenchError as error:
            problems.append(str(error))
    if as_json:
        references = [p.reference().model_dump(mode="json") for p in listed]
        tracks = [asdict(track) for track in TRACKS]
        print_json({"tracks": tracks, "protocols": references, "not_offered": NOT_OFFERED})
    else:
        for track in TRACKS:
            seeds = ", ".join(map(str, track.seeds))
            print(
                f"Track {track.id} (seeds {seeds}): {track.purpose}", *(f"* {rule}" for rule in track.rules), sep="\n"
            )
        place = {name: f"{track.id}, further" for track in TRACKS for name in track.further}
        rows = [
            [p.id, str(p.version), p.title, place.get(p.id, p.track), p.dataset, p.headline, p.sha256[:12]]
            for p in listed
        ]
        print_table("\nProtocols", ["protocol", "version", "title", "track", "data set", "headline", "sha256"], rows)
        print_table("\nNot offered", ["protocol", "reason"], [list(item) for item in NOT_OFFERED.items()])
        print("densebench protocols show ID: purpose, cost, published values and what differs from them, every setting")
    for problem in problems:
        Console(stderr=True, soft_wrap=True).print(f"problem: {problem}", markup=False, highlight=False)
    return int(bool(problems))


@protocols_app.command
def show(protocol: str, *, as_json: AsJson = False) -> None:
    """Print a protocol in full: purpose, cost, metric, hash, and every value, with the slots that a run fills.

    What is printed is itself a protocol file, complete and without imports: a start for one of your own.

    Example: densebench protocols show mini_voc_seg_fcn

    Parameters
    ----------
    protocol
        An id from `densebench protocols`, or the path of a protocol file (it is executed: read it first).
    """
    from bench.protocol_text import as_python
    from bench.protocols import load_protocol

    shown = load_protocol(protocol)
    if as_json:
        facts = {"reference": shown.reference().model_dump(mode="json"), "docstring": shown.docstring}
        return print_json({**facts, "config_file": str(shown.config_file), "config": dict(shown.config)})
    print(as_python(shown), end="")
