"""The command that evaluates two backbones together."""

from __future__ import annotations

from pathlib import Path

from bench.cli.common import EVALUATE, app
from leaderboard.base.terminal import Console


@app.command(group=EVALUATE)
def fuse(
    fine: Path,
    semantic: Path,
    *,
    data: Path,
    out: Path,
    protocol: str = "frozen_davis17_sfc",
    weight: float = 1.75,
    parts: bool = False,
) -> None:
    """Follow objects through videos by the features of two frozen backbones together, as SFC does at test time.

    The values are written to fusion.json in the folder OUT, not to a table, which has rows of single backbones.

    Example: densebench fuse sfc/export moco-v2/export --data data/ --out fused --parts

    Parameters
    ----------
    fine
        Exported folder (of `densebench export`, or in WORK/checkpoints) of the backbone of fine correspondence.
    semantic
        The like, of the backbone of an image-level method.
    data
        Data root with DAVIS.
    out
        Folder of fusion.json.
    protocol
        A protocol of DAVIS; it gives the settings.
    weight
        Factor of the first backbone's features before both are concatenated, 1.75 in SFC.
    parts
        Evaluate each backbone alone, too, and state the differences.
    """
    from bench.fusion import FUSION
    from bench.fusion import fuse as evaluate
    from bench.protocols import load_protocol

    loaded = load_protocol(protocol)
    measured = evaluate(fine, semantic, loaded, data, out, weight=weight, parts=parts)
    console = Console(soft_wrap=True, highlight=False)
    metric = loaded.headline
    for one in measured:
        line = f"{one.name:8}  {metric} {one.metrics[metric]:.1f}"
        if one is not measured[0]:
            difference, error = measured[0].minus(one, metric)
            line += f"  (fused {difference:+.1f}" + (f", standard error {error:.1f})" if error is not None else ")")
        console.print(line, markup=False)
    console.print(f"written: {out / FUSION}", markup=False)
