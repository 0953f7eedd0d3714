"""The description of a data set of one's own: a YAML file that `densebench data describe` writes and its user corrects.

    name: parts                         # the name in tables
    format: coco                        # coco, voc, yolo or masks
    train: {images: train, annotations: annotations/train.json}
    val: {images: val, annotations: annotations/val.json}
    classes: {1: bolt, 3: nut, 17: washer}

`annotations` is the file (coco) or the folder (voc, yolo, masks) of the annotations. `list` of a part names a file with
one image per line. With `val_share` instead of `val`, that share of the images of `train` is held out: those whose
names have the smallest SHA-256. `classes` maps what the files say (category id, class index, mask value) to names, or
is a list of the names (voc). Objects and pixels of what `ignore` lists do not count. `mask_ending` is what a mask's
name has instead of its image's ending. `orientation` says whether annotations fit pictures as `stored` or as `turned`
by their EXIF orientation, where sizes do not tell. All paths are relative to `root`, the folder of the description
unless it says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from bench.datasets.names import VOID
from bench.datasets.pixels import first_line
from bench.datasets.shares import by_hash
from bench.errors import BenchError
from leaderboard.base.errors import FileError
from leaderboard.base.files import describe_os_error, read_bounded
from leaderboard.base.validation import first_problem
from leaderboard.records.base import Identifier, Line

DESCRIPTION: Final = "densebench-data.yaml"
"""Name of the description in a data set's folder."""
SEGMENTATION: Final = "custom_seg"
DETECTION: Final = "custom_det"
INSTANCES: Final = "custom_inst"
"""What protocols call own data that they use: label maps, boxes, or boxes with masks. Results have the data's name."""
DATASETS: Final = (SEGMENTATION, DETECTION, INSTANCES)
MOST_CLASSES: Final = 1000
MOST_DRAWN: Final = VOID - 1
"""Most classes of label maps that are drawn from masks of objects: 0 is the background, 255 void."""
BACKGROUND: Final = "background"
"""Name of the class of all pixels outside the objects, in label maps that are drawn from masks of objects."""
_LONGEST: Final = 2**20
"""Most bytes of a description."""

Format = Literal["coco", "voc", "yolo", "masks"]
PartName = Literal["train", "val"]
Orientation = Literal["stored", "turned"]


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or not path.isprintable():
        raise ValueError("it must be a path below the data set's folder, with / between its parts")
    return path


Below = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_inside)]
"""A path below the data set's folder, `.` for the folder itself."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Part(_Model):
    """Where the files of a part are."""

    images: Below
    annotations: Below
    listed: Below | None = Field(default=None, alias="list")
    """File that lists the part's images, one per line: paths below `images`, with or without their endings."""


class Description(_Model):
    """What a description says; see the module's docstring."""

    name: Identifier
    format: Format
    root: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    train: Part
    val: Part | None = None
    val_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    classes: Annotated[dict[int, Line], Field(min_length=1, max_length=MOST_CLASSES)]
    """Names by what the files say, smallest first. VOC's files say names: the keys are positions in the list."""
    ignore: tuple[int | Line, ...] = ()
    mask_ending: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^/\\]+$")] = ".png"
    orientation: Orientation | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        """A list of classes becomes a mapping, lists become tuples."""
        if not isinstance(values, dict):
            raise ValueError("it must be a mapping: name, format, train, val, classes")
        values = dict(values)
        if isinstance(values.get("classes"), list):
            if values.get("format") in ("coco", "masks"):
                raise ValueError("classes: give a mapping from the ids or mask values to the names, {1: bolt, 3: nut}")
            values["classes"] = dict(enumerate(values["classes"]))
        if isinstance(values.get("classes"), dict) and all(type(key) is int for key in values["classes"]):
            values["classes"] = dict(sorted(values["classes"].items()))
            odd = [name for name in values["classes"].values() if not isinstance(name, str)]
            if odd:
                raise ValueError(f"classes: {odd[0]!r} is no text: write names such as no, on or 12 in quotes")
        if isinstance(values.get("ignore"), list):
            values["ignore"] = tuple(values["ignore"])
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.val is None) == (self.val_share is None):
            raise ValueError("give either val or val_share: images, on which nothing is trained, must be evaluated")
        names = list(self.classes.values())
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"classes: {twice[0]!r} is there twice")
        wanted = str if self.format == "voc" else int
        if wrong := [item for item in self.ignore if not isinstance(item, wanted)]:
            what = "names of classes" if wanted is str else "numbers, as classes has them"
            raise ValueError(f"ignore: {wrong[0]!r} is wrong: format {self.format} ignores {what}")
        said = set(names) if self.format == "voc" else set(self.classes)
        if both := [item for item in self.ignore if item in said]:
            raise ValueError(f"ignore: {both[0]!r} is also in classes")
        if self.format == "masks" and not (min(self.classes) >= 0 and max(self.classes) <= 255):
            raise ValueError("classes: the values of masks are 0 to 255")
        if self.format == "masks" and len(names) >= VOID:
            raise ValueError(f"classes: at most {VOID - 1} classes of masks are possible")
        return self

    def canonical(self) -> str:
        """One text for each meaning, whatever the file's layout, comments and place, and whatever the data's name."""
        values = self.model_dump(mode="json", exclude={"name", "root"})
        return json.dumps(values, sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True)
class Own:
    """A data set of one's own: its description, and the folder of its files."""

    said: Description
    folder: Path
    file: Path
    """The description."""

    @cached_property
    def labels(self) -> dict[int, int]:
        """The label of each class, 0, 1, ..., by what the files say."""
        return {key: label for label, key in enumerate(self.said.classes)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the classes by their labels."""
        return tuple(self.said.classes.values())

    @cached_property
    def map_names(self) -> tuple[str, ...]:
        """Names of the classes of label maps: those drawn from masks of objects have the background first."""
        return self.names if self.said.format == "masks" else (_background(self.names), *self.names)

    def part(self, name: PartName) -> Part:
        """Where the files of a part are; both parts are in the same place where one is held out of the other."""
        return self.said.val or self.said.train if name == "val" else self.said.train

    def held_out(self, names: list[str]) -> set[str]:
        """Those of the names of all images that are held out for the part `val`, at least one."""
        assert self.said.val_share is not None
        first = by_hash(names)[: max(1, round(self.said.val_share * len(names)))]
        return {names[position] for position in first}


def is_own(data: Path) -> bool:
    """Whether `data` is a description, or a folder with one."""
    try:
        return data.is_file() or (data / DESCRIPTION).is_file()
    except OSError:
        return False


def read_own(data: Path) -> Own:
    """The data set whose description is the file `data`, or lies in the folder `data`.

    Raises:
        BenchError: there is none, or it is not valid; says where and why.
    """
    file = data if data.is_file() else data / DESCRIPTION
    try:
        values = yaml.load(read_bounded(file, _LONGEST), Loader=_Loader)
        said = Description.model_validate(values)
    except FileNotFoundError as error:
        raise BenchError(
            f"{file} is missing: `densebench data describe {data}` writes it for a folder of images and annotations"
        ) from error
    except ValidationError as error:
        raise BenchError(f"{file}: {first_problem(error)}") from error
    except FileError as error:
        raise BenchError(str(error)) from error
    except OSError as error:
        raise BenchError(f"{file}: {describe_os_error(error)}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BenchError(f"{file} cannot be read as YAML: {_yaml_problem(error)}") from error
    folder = file.parent if said.root is None else file.parent / Path(said.root).expanduser()
    return Own(said, folder, file)


def number_of(data: Path, what: Literal["classes", "labels"]) -> int:
    """Number of classes of objects, or of labels of label maps, of the data set with its description in `data`."""
    own = read_own(data)
    return len(own.names if what == "classes" else own.map_names)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain values: no references, which let a short file grow without bound, and no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses a reference (*NAME): write the value itself")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, Hashable) or keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} is there twice, or is no text or number")
        return super().construct_mapping(node, deep)


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = "" if mark is None else f" (line {mark.line + 1})"
    return f"{getattr(error, 'problem', None) or first_line(error)}{place}"


def _background(names: tuple[str, ...]) -> str:
    """A name that no class has."""
    name = BACKGROUND
    while name in names:
        name = f"other {name}"
    return name
