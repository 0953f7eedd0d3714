"""Recipes as data: the method's config and everything else that determines the final weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Protocol, get_type_hints

from torch import nn

from pretrain.data.batches import ImageSource
from pretrain.errors import PretrainError
from pretrain.method import Method
from pretrain.optim.optimizers import AdamWConfig, LARSConfig, OptimizerConfig, SGDConfig
from pretrain.optim.schedules import CosineSchedule, Schedule, StepSchedule
from pretrain.settings import ADDED, PROSE, as_text, parse
from pretrain.suggestions import did_you_mean

__all__ = [
    "AdamWConfig",
    "CosineSchedule",
    "LARSConfig",
    "MethodConfig",
    "OptimizerConfig",
    "Recipe",
    "SGDConfig",
    "Schedule",
    "StepSchedule",
    "find_recipe",
    "override",
    "settings_of",
]


NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}"


class MethodConfig(Protocol):
    """A method's frozen config dataclass: it names its backbone and builds its method."""

    @property
    def backbone(self) -> str:
        """Architecture for `architectures.build_backbone`."""
        ...

    def build(self, backbone: nn.Module | None = None) -> Method:
        """The freshly initialized method."""
        ...


class ComputeStage(Protocol):
    """A frozen dataclass that computes something from what an earlier stage has trained, e.g. masks or neighbors."""

    @property
    def name(self) -> str:
        """Name by which methods find the file in `Method.products`; it has the form of a recipe's name."""
        ...

    def compute(self, method: Method, source: ImageSource, product: Path) -> None:
        """Write the file `product`, preferably one that can be memory-mapped, from the trained `method`.

        The method is on its device, in evaluation mode, and has the `products` of earlier stages. No gradients are
        kept, and PyTorch's generators are seeded. If the stage was interrupted, the unfinished `product` is there, so
        that it can be continued (`pretrain.data.tables`).
        """
        ...


@dataclass(frozen=True)
class Recipe:
    """One way of pretraining. If its stages only compute, it may have 0 epochs: then their files are its result.

    Raises:
        PretrainError: epochs or batch size below 1, or a name that cannot be a file name.
    """

    name: str
    method: MethodConfig
    epochs: int
    batch_size: int
    """Images per step over all processes."""
    optimizer: OptimizerConfig
    schedule: Schedule
    precision: Literal["fp32", "bf16"] = "fp32"
    stages: tuple[Recipe | ComputeStage, ...] = field(default=(), metadata=ADDED)
    """Earlier stages in order, which train or compute something; the recipe's own training is the last stage."""
    from_stage: bool = field(default=False, metadata=ADDED)
    """Whether the backbone starts from that of the preceding training stage, not from scratch or the run's weights."""
    first_epoch: int = field(default=0, metadata=ADDED)
    """Epochs of the same training that earlier stages have done. If it is above 0, everything that the preceding stage
    has learned is kept, including heads, momentum networks and the optimizer's state; crops are drawn as in the
    following epochs, and the schedule, of which both have the same, counts the epochs from the first one."""
    needs_init: bool = field(default=False, metadata=ADDED)
    """Whether it tunes a trained backbone, which every run must name (`--init`)."""
    data: str = field(default="", metadata=PROSE)
    """Pretraining data of the paper."""
    paper: str = field(default="", metadata=PROSE)
    expected: str = field(default="", metadata=PROSE)
    """Published scores of this recipe."""
    cost: str = field(default="", metadata=PROSE)
    """Rough cost of a run."""

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME, self.name):
            raise PretrainError(
                f"{self.name!r} is no recipe name: write at most 60 letters, digits, '.', '_', '+' and '-', "
                "the first a letter or a digit"
            )
        computes = bool(self.stages) and not any(isinstance(stage, Recipe) for stage in self.stages)
        for key, value, least in (("epochs", self.epochs, 0 if computes else 1), ("batch_size", self.batch_size, 1)):
            if value < least:
                raise PretrainError(f"recipe {self.name}: {key} is {value}, but must be at least {least}")
        self._check_stages()

    def _check_stages(self) -> None:
        if self.first_epoch < 0 or (self.first_epoch and not self.from_stage):
            raise PretrainError(f"recipe {self.name}: first_epoch is at least 0, and above 0 only with from_stage")
        names = [stage.name for stage in self.stages]
        trained: Recipe | None = None
        for stage in (*self.stages, self):
            if isinstance(stage, Recipe):
                if stage.from_stage and self.stages and trained is None:
                    raise PretrainError(f"recipe {self.name}: no stage before {stage.name} trains a backbone")
                if stage.first_epoch and trained is not None:
                    self._check_rounds(trained, stage)
                if stage is not self and stage.stages:
                    raise PretrainError(f"recipe {self.name}: stage {stage.name} has stages of its own; list them here")
                trained = stage
            if names.count(stage.name) > 1 or not re.fullmatch(NAME, stage.name):
                raise PretrainError(f"recipe {self.name}: {stage.name!r} cannot be the name of one stage")

    def _check_rounds(self, before: Recipe, after: Recipe) -> None:
        if before.optimizer != after.optimizer or before.schedule != after.schedule:
            raise PretrainError(
                f"recipe {self.name}: {after.name} goes on with the training of {before.name}: "
                "give both the same optimizer and schedule"
            )
        if not isinstance(after.schedule, StepSchedule):
            raise PretrainError(
                f"recipe {self.name}: {after.name} goes on with the training of {before.name}, and the rate of a "
                f"{type(after.schedule).__name__} depends on the length of the whole: give both a StepSchedule"
            )
        method, optimizer = after.method, after.optimizer
        for setting, constant, is_constant in (
            ("method.momentum_schedule", "constant", getattr(method, "momentum_schedule", "constant") == "constant"),
            ("optimizer.final_weight_decay", "none", getattr(optimizer, "final_weight_decay", None) is None),
        ):
            if not is_constant:
                raise PretrainError(
                    f"recipe {self.name}: {after.name} goes on with the training of {before.name}, and what "
                    f"{setting} changes would begin again in each: it must be {constant}"
                )

    @property
    def backbone(self) -> str:
        """The backbone's architecture."""
        return self.method.backbone

    @property
    def sha256(self) -> str:
        """Hash of all settings that decide the weights: equal hashes are the same recipe."""
        return settings_sha256(self)

    def to_dict(self) -> dict[str, Any]:
        """Every setting as JSON values; `type` names the dataclass of each part."""
        return _plain(self, hashed=False)


def settings_sha256(part: Any) -> str:
    """Hash of all settings of a recipe, or a part of it, that determine a result."""
    return hashlib.sha256(json.dumps(_plain(part, hashed=True), sort_keys=True).encode()).hexdigest()


SMALL_SGD = SGDConfig(lr=0.06, momentum=0.9, weight_decay=5e-4)


def small_recipe(
    name: str,
    method: MethodConfig,
    *,
    epochs: int,
    paper: str,
    expected: str = "",
    images_per_second: float | None = None,
    batch_size: int = 64,
    warmup_epochs: int = 1,
    optimizer: OptimizerConfig = SMALL_SGD,
) -> Recipe:
    """A method reduced to one CPU core and a few thousand small images, for trying it out in minutes.

    More epochs give better features; these are enough to see that a method learns. `images_per_second`, if it was
    measured, gives the cost.
    """
    cost = ""
    if images_per_second is not None:
        minutes = 3000 * epochs / images_per_second / 60
        cost = (
            f"one CPU core with AVX512-BF16: {images_per_second:.0f} images/s, {minutes:.0f} minutes for 3,000 images"
        )
    return Recipe(
        name=name,
        method=method,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        schedule=CosineSchedule(per="step", warmup_epochs=warmup_epochs),
        precision="bf16",
        data="a few thousand small images",
        paper=f"reduced from {paper}",
        expected=expected,
        cost=cost,
    )


def find_recipe(recipes: Mapping[str, Recipe], name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        PretrainError: there is none; the message lists similar names.
    """
    if name not in recipes:
        raise PretrainError(f"no recipe {name!r}; {did_you_mean(name, recipes)}`densebench recipes` lists all")
    return recipes[name]


_TWINS = {"method.clusters": "schedule.clusters", "schedule.clusters": "method.clusters"}
"""Settings of which one follows the other where both are equal, unless it is given, too: R2O's rate follows the number
of its clusters."""


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """A copy with settings changed by text such as `epochs=3`, `method.temperature=0.1` or `optimizer.lr=1e-2`.

    A stage is reached by its name: `stages.first.epochs=3`. Where the recipe's training goes on with that of stages
    (`first_epoch`), a setting that is equal in all of them changes in all of them.
    Values are read by the type of the field: numbers, `true`/`false`, `none`, and tuples as `0.2,1`.

    Raises:
        PretrainError: a key does not exist (similar ones are listed) or a value has another type.
    """
    given = {setting.partition("=")[0].strip() for setting in settings}
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise PretrainError(f"setting {setting!r}: write it as key=value, e.g. epochs=3")
        known = settings_of(recipe)
        if key not in known:
            nearest = get_close_matches(key, known, n=3, cutoff=0.5)
            nearest += [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2] and k not in nearest]
            listed = f"did you mean {', '.join(nearest)}?" if nearest else f"there are {', '.join(known)}"
            raise PretrainError(f"recipe {recipe.name} has no setting {key!r}; {listed}")
        twin = _TWINS.get(key, "")
        try:
            changed = _changed(recipe, key, text)
            follows = twin in known.keys() - given and known[twin] == known[key]
            recipe = _changed(changed, twin, text) if follows else changed
        except ValueError as error:
            raise PretrainError(f"setting {key}={text}: {error} (now {as_text(known[key])})") from error
    return recipe


def settings_of(part: Any, prefix: str = "") -> dict[str, Any]:
    """Present values of everything that `override` can change in a recipe, or a part of one, by dotted key."""
    found: dict[str, Any] = {}
    for item in fields(part):
        value = getattr(part, item.name)
        if is_dataclass(value):
            found.update(settings_of(value, f"{prefix}{item.name}."))
        elif isinstance(part, Recipe) and item.name == "stages" and value:
            for stage in value:
                found.update(settings_of(stage, f"{prefix}stages.{stage.name}."))
        else:
            found[prefix + item.name] = value
    return found


def _changed(recipe: Recipe, key: str, text: str) -> Recipe:
    path = key.split(".")
    rounds = _rounds_before(recipe)
    if not rounds or path[0] == "stages":
        replaced: Recipe = _replaced(recipe, path, text)
        return replaced
    present = settings_of(recipe)[key]
    last = _replaced(replace(recipe, stages=()), path, text)
    stages, done = [], 0
    for stage in recipe.stages:
        if isinstance(stage, Recipe) and stage.name in rounds:
            changed = _replaced(stage, path, text) if settings_of(stage)[key] == present else stage
            stages.append(replace(changed, first_epoch=done))
            done += changed.epochs
        else:
            stages.append(stage)
    return replace(last, stages=tuple(stages), first_epoch=last.first_epoch if key == "first_epoch" else done)


def _rounds_before(recipe: Recipe) -> set[str]:
    """Names of the training stages with which the recipe's own training goes on."""
    rounds = set[str]()
    later = recipe
    for stage in reversed([stage for stage in recipe.stages if isinstance(stage, Recipe)]):
        if not later.first_epoch:
            break
        rounds.add(stage.name)
        later = stage
    return rounds


def _replaced(part: Any, path: list[str], text: str) -> Any:
    name, *rest = path
    if isinstance(part, Recipe) and name == "stages" and rest:
        of, *inner = rest
        return replace(part, stages=tuple(_replaced(s, inner, text) if s.name == of else s for s in part.stages))
    if rest:
        return replace(part, **{name: _replaced(getattr(part, name), rest, text)})
    return replace(part, **{name: parse(text, get_type_hints(type(part))[name])})


def _plain(value: Any, *, hashed: bool) -> Any:
    """The value as JSON values. For the hash, prose is left out and whole numbers equal floats (`lr=1` is `lr=1.0`)."""
    if is_dataclass(value):
        kept = [item for item in fields(value) if not (hashed and _unhashed(item, getattr(value, item.name)))]
        return {
            "type": type(value).__name__,
            **{item.name: _plain(getattr(value, item.name), hashed=hashed) for item in kept},
        }
    if isinstance(value, tuple | list):
        return [_plain(item, hashed=hashed) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and hashed:
        return float(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a recipe holds only dataclasses, tuples, numbers, text and None, not {type(value).__name__}")


def _unhashed(item: Field[Any], value: Any) -> bool:
    return bool(item.metadata.get("prose") or (item.metadata.get("added") and value == item.default))
