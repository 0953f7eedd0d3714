"""The command that audits a user's own training config."""

from __future__ import annotations

from pathlib import Path

from bench.cli.common import EVALUATE, AsJson, app, print_json, print_table


@app.command(group=EVALUATE)
def audit(config: Path, *, protocol: str | None = None, gpus: int | None = None, as_json: AsJson = False) -> int:
    """Hold your own mmdet, mmsegmentation or detectron2 config against a protocol: what departs from it, and why it
    matters.

    Of a log, the config that the training printed into it is taken. A config that is code is executed, as training
    does. The exit code is 1 where a result must not stand beside the protocol's.

    Example: densebench audit work_dirs/my_run/20261127_101500.log

    Parameters
    ----------
    config
        A `.py`, `.json` or `.yaml` config, or the log of a training.
    protocol
        An id from `densebench protocols`, or a protocol file (default: of those of track paper that have the config's
        kind of model, the nearest; those of its data set come first).
    gpus
        On how many GPUs it is trained (default: what the log or the file's name says).
    """
    from bench.audit import audit as auditing
    from bench.audit.reading import read_config
    from bench.audit.words import count
    from bench.errors import BenchError
    from bench.protocols import all_protocols, load_protocol
    from leaderboard.base.terminal import say
    from leaderboard.published import values

    if protocol is None:
        candidates = auditing.audited([one for one in all_protocols() if one.track == "paper"])
    else:
        candidates = [load_protocol(protocol)]
    nearest, *others = auditing.audit(read_config(config), candidates, gpus=gpus)
    if protocol is None and nearest.other_model is not None:
        raise BenchError(
            f"no protocol of track paper has the model of this config, {nearest.other_model}, so its results stand "
            "beside none of theirs; to see what else differs from a protocol, name it: --protocol ID"
        )
    if as_json:
        print_json(auditing.as_json(nearest))
        return int(not nearest.comparable)
    for note in nearest.notes:
        say(f"note: {note}")
    if nearest.deviations:
        rows = [
            [d.aspect, d.protocol, d.config, "yes" if d.decisive else "no", d.why]
            for d in sorted(nearest.deviations, key=lambda d: not d.decisive)
        ]
        print_table(
            f"{config} departs from {nearest.protocol}",
            ["aspect", "protocol", "config", "decisive", "what it does"],
            rows,
        )
    print(f"\nAlike: {', '.join(nearest.alike) or 'nothing'}.")
    if nearest.unknown:
        print(f"The config says nothing of: {', '.join(nearest.unknown)}.")
    known = sum(value.protocol == nearest.protocol for value in values())
    published = f", and beside the {known} published values of it that `densebench leaderboard` knows" if known else ""
    if nearest.comparable:
        print(f"Results may stand beside those of {nearest.protocol}{published}.")
    else:
        differences = count(nearest.decisive, "decisive difference")
        print(f"Results must not stand beside those of {nearest.protocol}: {differences}.")
    if others and others[0].other_model is None:
        print(f"Next nearest: {others[0].protocol}, {count(len(others[0].deviations), 'difference')}.")
    return int(not nearest.comparable)
