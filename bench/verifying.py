"""Reproducing a result: the run's stored weights are evaluated again (a probe is run again) and all is compared."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.datasets import check
from bench.environment import describe_environment
from bench.errors import BenchError
from bench.fine_tuning import require_fine_tuning
from bench.metrics.outputs import describe_outputs
from bench.probes.plans import ProbePlan
from bench.protocols import Protocol, load_protocol
from bench.submit import run_folder
from leaderboard.base.errors import RecordError
from leaderboard.base.files import describe_os_error, read_bounded
from leaderboard.records import MAX_BYTES, Result, read_result_json


@dataclass(frozen=True)
class Verification:
    """What came out when a result was reproduced."""

    result: Result
    metrics: dict[str, float]
    """Every metric, found now, in per cent."""
    how: str
    """A description of what was done."""
    differences: list[str]
    """Metrics, standard errors and per-image outputs that are not exactly the result's."""
    circumstances: list[str]
    """Device, threads and versions that are not the result's: they may explain differences."""

    @property
    def reproduced(self) -> bool:
        """Whether everything is exactly as in the result."""
        return not self.differences


def verify(file: Path, *, data: Path, work: Path | None = None, protocol: str | None = None) -> Verification:
    """Reproduce the result in `file` on the data root `data`.

    The run's weights and the checkpoint are those in the work folder `work` (default: the one in whose `results` the
    file lies). `protocol` is the file of a protocol from outside. As many threads are used as the result names. Nothing
    is written but a temporary folder.

    Raises:
        BenchError: the file is no finished result; its protocol, data, checkpoint or weights are not those of the run;
            or what fine-tuning needs is not installed.
    """
    result = _read(file)
    used = _protocol(result, protocol)
    if not isinstance(used.plan, ProbePlan):
        require_fine_tuning("verifying a fine-tuning")
    work = work or file.absolute().parent.parent
    run = run_folder(work, result.card.sha256, used.id, result.seed, result.key)
    checkpoint = work / "checkpoints" / result.card.sha256[:12]
    if not checkpoint.is_dir():
        raise BenchError(f"{checkpoint} is missing: name the folder in which the run was made, --work DIR")
    found = check(data, used.dataset).reference()
    if (found.fingerprint, found.classes) != (result.dataset.fingerprint, result.dataset.classes):
        raise BenchError(
            f"{used.dataset} in {data} is not what the result was measured on: fingerprint {found.fingerprint[:16]}, "
            f"the result's {result.dataset.fingerprint[:16]}"
        )
    torch.set_num_threads(result.environment.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if isinstance(used.plan, ProbePlan):
            from bench.probes.runner import run_probe

            how = "the probe was run again"
            metrics = run_probe(
                used, checkpoint, data, found, result.seed, folder, features=folder / "features"
            ).metrics
        else:
            from bench.openmmlab.runner import evaluate_stored
            from bench.openmmlab.stored_weights import WEIGHTS

            how = f"{run / WEIGHTS} was evaluated again"
            metrics = evaluate_stored(used, checkpoint, data, run, folder)
        errors, outputs = describe_outputs(folder)
    differences = _compare("", result.metrics, metrics) + _compare("error of ", result.standard_errors, errors)
    differences += [
        f"{name}: other bytes than the result's"
        for name, sha256 in outputs.items()
        if result.outputs.get(name, sha256) != sha256
    ]
    return Verification(result, metrics, how, differences, _circumstances(result))


def _read(file: Path) -> Result:
    try:
        result = read_result_json(read_bounded(file, MAX_BYTES))
    except RecordError as error:
        raise BenchError(f"{file}: {error}") from error
    except OSError as error:
        raise BenchError(f"cannot read the result: {describe_os_error(error)}") from error
    if result.status != "finished":
        raise BenchError(f"{file}: the run failed ({result.failure}): it has no weights to evaluate")
    return result


def _protocol(result: Result, name: str | None) -> Protocol:
    """The protocol by whose values the result was made."""
    protocol = load_protocol(name or result.protocol.id)
    if protocol.sha256 != result.protocol.sha256:
        raise BenchError(
            f"{protocol.id} is another protocol now ({protocol.config_file}, hash {protocol.sha256[:12]}; the result's "
            f"is version {result.protocol.version}, hash {result.protocol.sha256[:12]}): verify it with the densebench "
            "that made it, or name its file, --protocol FILE"
        )
    return protocol


def _compare(what: str, stored: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    """A description of each value that is not exactly the same."""
    return [
        f"{what}{name}: {stored.get(name, 'none')} in the result, {found.get(name, 'none')} now"
        for name in dict.fromkeys((*stored, *found))
        if stored.get(name) != found.get(name)
    ]


def _circumstances(result: Result) -> list[str]:
    then = result.environment
    now = describe_environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"), then.precision)
    pairs = {"device": (then.device, now.device), "threads": (str(then.threads), str(now.threads))}
    pairs |= {name: (version, now.packages.get(name, "none")) for name, version in then.packages.items()}
    return [f"{what} {old} in the result, {new} now" for what, (old, new) in pairs.items() if old != new]
