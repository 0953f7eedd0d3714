"""Frozen linear probes of a backbone in training, for `densebench pretrain --probe`."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from bench.datasets import check
from bench.datasets.own.description import is_own
from bench.errors import BenchError
from bench.protocols import Protocol, linear_probes, load_protocol
from leaderboard.records import DatasetReference, Pretraining, Source
from pretrain.exported import check_complete, make_card, serialized, write_files
from pretrain.run.folder import BACKBONE_PREFIX, RunRecord
from pretrain.run.probing import Probed


@dataclass(frozen=True)
class TrainingProbe:
    """Measures a backbone under every linear protocol of the frozen track whose data set `data` holds.

    `folder` is made for each measurement and removed after it. The values equal those of `submit` for the exported
    backbone.
    """

    data: Path
    folder: Path

    @cached_property
    def protocols(self) -> list[tuple[Protocol, DatasetReference]]:
        """The protocols, with their checked data sets.

        Raises:
            BenchError: the data root has no data set that can be used.
        """
        linear = [load_protocol("custom_seg_linear")] if is_own(self.data) else linear_probes()
        reports = [(protocol, check(self.data, protocol.dataset)) for protocol in linear]
        found = [(protocol, report.reference()) for protocol, report in reports if not report.errors]
        if not found:
            names = ", ".join(protocol.dataset for protocol in linear)
            raise BenchError(f"--probe {self.data}: none of {names} can be used; `densebench data check` says why")
        return found

    def __call__(self, tensors: Mapping[str, Tensor], record: RunRecord, step: int) -> list[Probed]:
        """Results of the probes for the backbone with these tensors.

        Raises:
            BenchError, PretrainError: it cannot be probed.
        """
        from bench.probes.runner import run_probe

        shutil.rmtree(self.folder, ignore_errors=True)
        check_complete(tensors, record.architecture, Path(f"the backbone after step {step}"))
        data = serialized(tensors)
        sha256 = hashlib.sha256(data).hexdigest()
        source = Source(
            format="densebench run",
            file=f"weights after step {step}",
            sha256=sha256,
            key_prefix=BACKBONE_PREFIX,
        )
        facts = {
            "name": f"step{step}",
            "method": record.method,
            "architecture": record.architecture,
            "color_order": "RGB",
            "mean": tuple(record.mean),
            "std": tuple(record.std),
            "pretraining": Pretraining.known(),
            "source": source,
            "license": None,
            "code_commit": record.code_commit,
        }
        try:
            write_files(self.folder, data, make_card(facts, sha256))
            results = [
                run_probe(
                    protocol,
                    self.folder,
                    self.data,
                    dataset,
                    0,
                    self.folder / protocol.id,
                    features=self.folder / "features",
                )
                for protocol, dataset in self.protocols
            ]
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        return [
            Probed(
                f"{result.protocol.short_title} {result.protocol.headline}",
                result.dataset.fingerprint[:12],
                result.metrics[result.protocol.headline],
                result.standard_errors[result.protocol.headline],
            )
            for result in results
        ]
