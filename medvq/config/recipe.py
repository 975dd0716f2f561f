"""A recipe: how a tree of images becomes a dataset. Every path in it is relative to the source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from medvq.config.schema import Schema, validate
from medvq.config.yamlfile import read_yaml
from medvq.errors import NotFoundError


def _pair(value: Any) -> Any:
    """Return `512` as `(512, 512)` and `240x256` as `(240, 256)`."""
    if isinstance(value, str):
        return parse_size(value)
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Side = Annotated[int, Field(ge=1, le=65535)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_pair)]
Share = Annotated[float, Field(gt=0, lt=1)]
Names = Annotated[list[str], BeforeValidator(_several)]
Grey = Annotated[int, Field(ge=0, le=255)]


class Made(Schema):
    """A split that is made because the source has none of that name."""

    of: str = "train"
    """The split from which samples are taken."""
    share: Share
    """The share of every class that is taken, relative to the split before any split is made."""


def _made(value: Any) -> Any:
    return {"share": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Splits(Schema):
    """The split of each sample. By default it is `{split}` of the path, or from a table, else all are in train."""

    names: dict[str, str] = {}
    """Names of splits in the source and what they mean, such as `Training: train`. The usual names are known."""
    lists: dict[str, str] = {}
    """Text files with one id or path per line, by split, such as `train: ImageSets/Main/train.txt`."""
    make: dict[str, Annotated[Made, BeforeValidator(_made)]] = {}
    """Splits to make: group-disjoint, stratified by class, duplicates together."""
    seed: int = 0
    """Seed of the splits that are made."""
    keep: list[str] | None = None
    """Pack only these splits; images of others are ignored."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Splits:
        for source in {m.of for m in self.make.values()}:
            total = sum(m.share for m in self.make.values() if m.of == source)
            if total >= 1:
                raise ValueError(f"the shares made of {source} sum to {total:g}; something must stay in {source}")
            if source in self.make:
                raise ValueError(f"{source} is itself made; take {', '.join(self.make)} from a given split")
        return self


class LabelTable(Schema):
    """A CSV, TSV or semicolon file with labels, groups or splits of the images."""

    file: str
    """Its path, relative to the source (`../split.csv` is allowed)."""
    id: str | list[str]
    """The column with the image's name, or several columns that `format` joins."""
    match: Literal["id", "path"] = "id"
    """`id`: the value is the `{id}` of the path. `path`: the value is the end of the image's path."""
    format: str | None = None
    """Format that turns the value into an id, such as `BloodImage_{:05d}` for a number."""
    label: str | None = None
    """The column with the class."""
    one_hot: list[str] = []
    """Columns named after classes; the one that is 1 is the class."""
    otherwise: str | None = None
    """The class of a row in which no column of `one_hot` is 1."""
    values: dict[str, str] = {}
    """Values of the label column and the classes they mean."""
    group: str | None = None
    """The column with the group (patient, lesion, slide); it must agree with `{group}` of the path."""
    split: str | None = None
    """The column with the split; it must agree with `{split}` of the path."""
    complete: bool = True
    """Whether the table has a row for every image; an image without a row is then a bad sample.

    With false, images without a row have no group and are in train. If any image has a label, one without a label is a
    bad sample even so, because training would have to take it for some class.
    """

    @model_validator(mode="after")
    def _says_something(self) -> LabelTable:
        if self.label and self.one_hot:
            raise ValueError("give label or one_hot, not both")
        if not (self.label or self.one_hot or self.group or self.split):
            raise ValueError("the table gives nothing: name its label, one_hot, group or split column")
        return self


class Subset(Schema):
    """A released smaller training set: a folder with copies of some training images."""

    percent: Annotated[float, Field(gt=0, lt=100)]
    """Its share of the training split, such as 10."""
    images: str
    """The path pattern of its images, relative to the source."""


class Recipe(Schema):
    """How a source becomes a dataset.

    Path patterns (`images`, `masks`) hold fields: `{class}`, `{split}`, `{group}`, `{id}`, `{ext}`, `{name}` (the whole
    name of the file), `{*}` (anything within a folder), `{**}` (anything). A field that occurs twice must match the
    same text both times.
    """

    name: str | None = None
    """Name of the dataset; by default the name of the source folder."""
    about: str = ""
    """One or two sentences about the dataset and its peculiarities."""
    licence: str = ""
    """Terms under which the images may be used, and where they are stated."""
    source: str = ""
    """Where the images come from."""
    cite: str = ""
    """What to cite."""

    images: Names = []
    """Path patterns of the images; the first that matches counts. By default the layout is detected."""
    masks: str | None = None
    """Path pattern of the masks; fields that the image's pattern has too must agree."""
    ignore: list[str] = []
    """Globs of paths that are not part of the set, such as `*/Thumbs.db`."""
    classes: dict[str, list[str]] | list[str] = []
    """The classes in label order, with other spellings; by default the names found, sorted."""
    tables: list[LabelTable] = []
    """Files with labels, groups or splits."""
    group: str | None = None
    """A regular expression on the path whose first bracket is the group, if a pattern's `{group}` cannot express it."""
    splits: Splits = Splits()
    """How samples are divided into splits."""
    subset_from: list[Subset] = []
    """Released subset folders, which set the order in which samples enter smaller subsets."""

    crop: Size | None = None
    """Height and width of the centre that is kept, before resizing."""
    size: Size | None = None
    """Height and width of every stored image; by default sizes stay."""
    fit: Literal["squeeze", "crop", "pad"] = "squeeze"
    """How an image of another shape is brought to `size`."""
    channels: Literal[1, 3] | None = None
    """1 makes all images grey; 3 makes them RGB, but keeps the bytes of grey files if possible."""
    background: Grey | tuple[Grey, Grey, Grey] = 0
    """Colour behind transparent pixels and around padded images."""
    window: tuple[float, float] | None = None
    """The grey values that become black and white, for 16-bit, 32-bit and float images."""
    mask_values: dict[int, Grey] = {}
    """Mask values of the source and the values to store instead; by default values stay."""
    masks_turned: bool | None = None
    """For images with an EXIF orientation: whether masks are oriented as the images are shown (true), or as they are
    stored (false; masks are then rotated too). By default the size of a mask decides; if both fit, it is rotated."""
    store: Literal["auto", "png", "jpeg", "npy"] = "auto"
    """`auto` keeps the bytes of JPEG, PNG and array sources if nothing has to change, else it stores PNG."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Quality of JPEG, with `store: jpeg`."""
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    """An image with more pixels is refused without being read, which bounds the memory."""

    opaque_keys: bool = False
    """Drop file names and group names from everything that is written."""
    shard_samples: Annotated[int, Field(ge=1)] = 1000
    """Largest number of samples in a shard."""
    shard_megabytes: Annotated[int, Field(ge=1)] = 128
    """Largest size of a shard in MB, approximately."""
    on_bad: Literal["fail", "skip"] = "fail"
    """What to do with bad samples if the command does not say it."""
    on_leak: Literal["fail", "report"] = "fail"
    """What to do with leaks between splits if the command does not say it."""

    @field_validator("window")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError("the first value of a window is black, the second white: it must be larger")
        return value

    @field_validator("group")
    @classmethod
    def _one_bracket(cls, value: str | None) -> str | None:
        import re

        try:
            if value is not None and re.compile(value).groups < 1:
                raise ValueError("put the group in brackets, as in `patient_(\\d+)`")
        except re.error as e:
            raise ValueError(f"not a regular expression: {e}") from e
        return value

    @field_validator("images", "masks")
    @classmethod
    def _patterns(cls, value: Any) -> Any:
        for text in [value] if isinstance(value, str) else value or []:
            _check_pattern(text)
        return value

    def class_names(self) -> list[str]:
        """Return the class names in label order; empty if the recipe does not give them."""
        return list(self.classes)

    def aliases(self) -> dict[str, str]:
        """Return the class of every spelling that the recipe knows."""
        if not isinstance(self.classes, dict):
            return {name: name for name in self.classes}
        return {spelling: name for name, others in self.classes.items() for spelling in [name, *others]}


FIELDS = frozenset({"class", "split", "group", "id", "ext", "name", "*", "**"})
"""Fields that a path pattern may have, in braces."""


def _check_pattern(text: str) -> None:
    import re

    unknown = [f for f in re.findall(r"\{([^{}]*)\}", text) if f not in FIELDS]
    if unknown:
        raise ValueError(
            f"{{{unknown[0]}}} is no field of a path pattern; there are {{class}}, {{split}}, {{group}}, "
            "{id}, {ext}, {name}, {*} and {**}"
        )
    if text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{text!r} leaves the source; patterns are relative to it")


def parse_size(text: str) -> tuple[int, int]:
    """Parse `64` or `240x256` (height x width) into (height, width).

    Raises:
        ValueError: the text is neither.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(p.strip().isdigit() and 0 < int(p) < 65536 for p in parts):
        raise ValueError(f"{text!r} is no size: give N or HxW")
    return int(parts[0]), int(parts[-1])


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the recipe has mistakes; the error lists all.
    """
    if not path.is_file():
        raise NotFoundError("no such recipe", where=str(path))
    return validate(Recipe, read_yaml(path))
