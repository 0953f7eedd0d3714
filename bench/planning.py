"""How many runs are needed to show a difference, under which protocol, and in how many hours.

The noise between runs is measured on the stored results, or for protocols of full size taken from the literature:
fine-tuning seeds of one checkpoint, and pretraining runs of one method (whose differences include those of the seeds).
The error that does not shrink with more runs is measured, too: both backbones are evaluated on one set of images, and a
difference smaller than the error due to these images holds for them alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, median

from bench.power import cautious_sd, least_difference, least_known_error, pooled_sd, runs_needed
from bench.probes.plans import ProbePlan
from bench.protocols import Protocol
from bench.tracks import FAIR, PAPER
from leaderboard.entries import find_entries
from leaderboard.records import RANDOM_METHOD, Result
from leaderboard.shares import Shares, difference_error

FEW = 3
"""Number of runs of each backbone for which the smallest detectable difference is reported."""
NOTHING = "nothing"
"""What is repeated of a probe, which draws next to nothing, to tell two checkpoints apart."""
PRETRAINING = "pretraining run"
"""What is repeated to tell two methods apart."""
MOST_COMPARED = 30
"""Most checkpoints whose shares of images are compared in pairs."""


@dataclass(frozen=True)
class Noise:
    """The standard deviation of single runs, in points of per cent."""

    sd: float
    freedom: int
    """Degrees of freedom of the standard deviation."""
    source: str
    """Source of the value, in words."""
    measured: bool
    """Whether it was measured on results of this protocol; otherwise on another one of full size on the same data."""


LITERATURE: Mapping[str, Noise] = {
    "coco2017": Noise(0.27, 15, "Mask R-CNN C4 1x, box AP (CoinCheung/SelfSup)", False),
    "cityscapes": Noise(0.29, 15, "DeepLabV3+, mIoU (CoinCheung/SelfSup)", False),
    "voc0712_det": Noise(0.2, 15, "Faster R-CNN C4, AP (arXiv 1911.05722)", False),
}
"""Noise by data set, of protocols of full size: runs on few images vary more. The first two values are pooled over the
repeated runs that are published with that repository, 4 runs of each of 5 checkpoints; that of VOC is from the paper.
(COCO's mask AP has .23.)"""
FULL_SIZE = (PAPER.id, FAIR.id)
"""Tracks for whose protocols the literature stands in."""


@dataclass(frozen=True)
class Option:
    """One way to show the difference: a protocol, and what is repeated under it."""

    protocol: str
    repeated: str
    """What is repeated: `evaluation seed`, `pretraining run` or `nothing`."""
    noise: Noise | None
    runs: int | None
    """Runs of each of the two backbones; None if they are too many or not known. Without `enough_images` they decide
    for these images alone."""
    cautious_runs: int | None
    """Runs of each if the standard deviation is the upper end of its interval; None as for `runs`."""
    least_with_few: float | None
    """Smallest difference that `FEW` runs of each can show."""
    least_over_images: float | None
    """Smallest difference that holds for other images of the same kind, too, however many runs there are."""
    enough_images: bool | None
    """Whether the difference is at least `least_over_images`; None if that is not known."""
    run_seconds: float | None
    """Mean seconds of an evaluation among the results."""
    evaluations: float = 1.0
    """Evaluations of one run: of a pretraining run as many seeds as among the results, on average, because the noise is
    that of their means."""

    @property
    def measured(self) -> bool:
        """Whether the noise, or of a probe the error due to the images, was measured on results of this protocol."""
        if self.noise is not None:
            return self.noise.measured
        return self.repeated == NOTHING and self.enough_images is not None

    @property
    def hours(self) -> float | None:
        """Hours of all evaluations of both backbones, without pretraining."""
        if self.runs is None or self.run_seconds is None:
            return None
        return 2 * self.runs * self.evaluations * self.run_seconds / 3600


def options(
    protocols: Sequence[Protocol],
    results: Iterable[Result],
    shares: Callable[[Result], Shares | None],
    *,
    difference: float,
    power: float,
) -> list[Option]:
    """The options that show a `difference` (in points of per cent) with this `power` under each protocol.

    Failed runs, and runs on another data set than most, are left out.
    """
    finished = [result for result in results if result.status == "finished"]
    by_hash: dict[str, list[Result]] = defaultdict(list)
    for result in finished:
        by_hash[result.protocol.sha256].append(result)
    return [
        option
        for protocol in protocols
        for option in _of_protocol(protocol, _on_one_data_set(by_hash[protocol.sha256]), shares, difference, power)
    ]


def cheapest(found: Sequence[Option]) -> Option | None:
    """The option with the fewest hours, among those whose noise was measured and whose images are enough."""
    fit = (one for one in found if one.measured and one.enough_images is not False and one.hours)
    return min(fit, key=lambda one: one.hours or 0.0, default=None)


def _of_protocol(
    protocol: Protocol,
    results: Sequence[Result],
    shares: Callable[[Result], Shares | None],
    difference: float,
    power: float,
) -> list[Option]:
    seconds = fmean(result.wall_seconds for result in results) if results else None
    error = _paired_error(results, shares)
    over_images = None if error is None else least_known_error(error, power)
    enough = None if over_images is None else difference >= over_images

    def repeating(what: str, noise: Noise | None, evaluations: float = 1.0) -> Option:
        if noise is None:
            return Option(protocol.id, what, None, None, None, None, over_images, enough, seconds, evaluations)
        return Option(
            protocol.id,
            what,
            noise,
            runs_needed(difference, noise.sd, power),
            runs_needed(difference, cautious_sd(noise.sd, noise.freedom), power),
            least_difference(noise.sd, FEW, power),
            over_images,
            enough,
            seconds,
            evaluations,
        )

    if isinstance(protocol.plan, ProbePlan):
        once = 1 if enough else None
        found = [Option(protocol.id, NOTHING, None, once, once, None, over_images, enough, seconds)]
    else:
        known = LITERATURE.get(protocol.dataset) if protocol.track in FULL_SIZE else None
        found = [repeating("evaluation seed", _of_seeds(results) or known)]
    between, evaluations = _of_pretraining(results)
    if between is None and not isinstance(protocol.plan, ProbePlan):
        return found
    # of a probe also if it is not known: nothing else decides on methods
    return [*found, repeating(PRETRAINING, between, evaluations)]


def _of_seeds(results: Sequence[Result]) -> Noise | None:
    """Noise of evaluation seeds, pooled over checkpoints that were evaluated with several seeds."""
    values: dict[str, list[float]] = defaultdict(list)
    for result in results:
        values[result.card.sha256].append(_headline(result))
    return _noise(list(values.values()), "checkpoints", "seeds")


def _of_pretraining(results: Sequence[Result]) -> tuple[Noise | None, float]:
    """Noise of pretraining runs, pooled over methods that were pretrained several times (not random initialization).

    Also the mean number of evaluations of these runs; 1 without any.
    """
    entries, _ = find_entries(results)
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if result.card.method != RANDOM_METHOD:
            label = entries[result.card.name, result.card.sha256].label
            values[label][result.card.sha256].append(_headline(result))
    several = [list(runs.values()) for runs in values.values() if len(runs) > 1]
    evaluations = fmean(len(seeds) for runs in several for seeds in runs) if several else 1.0
    return _noise([list(map(fmean, runs)) for runs in several], "methods", "pretraining runs"), evaluations


def _noise(groups: list[list[float]], of: str, what: str) -> Noise | None:
    several = [values for values in groups if len(values) > 1]
    found = pooled_sd(several)
    if found is None:
        return None
    count = sum(map(len, several))
    return Noise(*found, f"measured: {count} {what} of {len(several)} {of if len(several) > 1 else of[:-1]}", True)


def _paired_error(results: Sequence[Result], shares: Callable[[Result], Shares | None]) -> float | None:
    """Median of the standard errors of differences between checkpoints, for the draw of the images."""
    first: dict[str, Result] = {}
    for result in sorted(results, key=lambda result: result.seed):
        first.setdefault(result.card.sha256, result)
    of_images = [(shares(result), result.protocol.headline) for result in list(first.values())[:MOST_COMPARED]]
    known = [(one, metric) for one, metric in of_images if one is not None and metric in one.metrics]
    found = [difference_error(a, b, metric) for (a, metric), (b, _) in combinations(known, 2)]
    errors = [error for error in found if error is not None]
    return median(errors) if errors else None


def _on_one_data_set(results: Sequence[Result]) -> list[Result]:
    if not results:
        return []
    (usual, _), *_ = Counter(result.dataset.fingerprint for result in results).most_common()
    return [result for result in results if result.dataset.fingerprint == usual]


def _headline(result: Result) -> float:
    return result.metrics[result.protocol.headline]
