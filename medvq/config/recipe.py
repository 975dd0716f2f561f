"""A recipe: how a tree of images becomes a dataset. Every path in it is relative to the source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from medvq.config.schema import Schema, validate
from medvq.config.yamlfile import read_yaml
from medvq.errors import ConfigError, NotFoundError, Problem, UsageError
from medvq.registry import Registry

SOURCES = Registry(
    "container",
    {
        "npz": "medvq.shards.source.npz:NpzSource",
        "webdataset": "medvq.shards.source.webdataset:WebDatasetSource",
        "folder": "medvq.shards.source.folder:FolderSource",
    },
)
"""The built-in sources (`medvq.shards.source.base.Source`), in the order in which they are asked to open a path."""


def _pair(value: Any) -> Any:
    """`512` as `(512, 512)`, `240x256` as `(240, 256)`."""
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
    """A split that is made, because the source has none of that name."""

    of: str = "train"
    """The split from which samples are taken."""
    share: Share
    """The share of every class that is taken (of the split as it was before any is made)."""


def _made(value: Any) -> Any:
    return {"share": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Splits(Schema):
    """Which sample is in which split. Without this, `{split}` of the path, a table, or all in train."""

    names: dict[str, str] = {}
    """Spellings of the source and the split they mean, such as `Training: train`. The usual ones are known."""
    lists: dict[str, str] = {}
    """Text files with one id or path a line, by split, such as `train: ImageSets/Main/train.txt`."""
    make: dict[str, Annotated[Made, BeforeValidator(_made)]] = {}
    """Splits to make: group-disjoint, stratified by class, duplicates together."""
    seed: int = 0
    """Another seed makes other splits."""
    keep: list[str] | None = None
    """Only these splits are packed; images of others are left out as ignored."""

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
    """A CSV, TSV or semicolon file that tells something about the images."""

    file: str
    """Where it is, relative to the source (`../split.csv` is allowed)."""
    id: str | list[str]
    """The column with the image's name, or several that are joined by `format`."""
    match: Literal["id", "path"] = "id"
    """`id`: the value is the `{id}` of the path. `path`: the value is a path that ends as the image's does."""
    format: str | None = None
    """How the value becomes an id, such as `BloodImage_{:05d}` for a number."""
    label: str | None = None
    """The column with the class."""
    one_hot: list[str] = []
    """Columns of which the one that is 1 is the class."""
    otherwise: str | None = None
    """The class of a row where no column of `one_hot` is 1."""
    values: dict[str, str] = {}
    """Values of the label column and the class they mean."""
    group: str | None = None
    """The column with the group (patient, lesion, slide); it must agree with `{group}` of the path."""
    split: str | None = None
    """The column with the split; it must agree with `{split}` of the path."""
    complete: bool = True
    """An image without a row is a bad sample; false where the table tells about some images only.

    The others then have no group and are in train. Where any image has a label, one without it is a bad sample all the
    same, as training would have to take it for some class.
    """

    @model_validator(mode="after")
    def _says_something(self) -> LabelTable:
        if self.label and self.one_hot:
            raise ValueError("give label or one_hot, not both")
        if not (self.label or self.one_hot or self.group or self.split):
            raise ValueError("the table gives nothing: name its label, one_hot, group or split column")
        return self


class Subset(Schema):
    """A released smaller training set: a folder that holds copies of some training images."""

    percent: Annotated[float, Field(gt=0, lt=100)]
    """Its share of the training split, such as 10."""
    images: str
    """The path pattern of its images, relative to the source."""


class Recipe(Schema):
    """How a source becomes a dataset.

    Path patterns (`images`, `masks`) hold fields: `{class}`, `{split}`, `{group}`, `{id}`, `{ext}`, `{name}` (the whole
    name of the file), `{*}` (anything within a folder), `{**}` (anything). A field that stands twice must match the
    same text both times.
    """

    name: str | None = None
    """What to call the dataset; without it, the name of the source folder."""
    about: str = ""
    """One or two sentences on what it is and what is special about it."""
    licence: str = ""
    """Under which terms the images may be used, and where that was read."""
    source: str = ""
    """Where the images come from."""
    cite: str = ""
    """What to cite."""

    container: str | None = None
    """What the source is: `folder`, `npz`, `webdataset`, or the import path of a class of your own such as
    `my_lab.sources:MySource` (see `medvq.shards.source.base.Source`). Without it, this is detected."""
    metadata: dict[Literal["class", "split", "group", "id"], str | None] = {}
    """Names under which the container itself stores what is known of an image, such as `{group: patient_id}` for a key
    in the JSON of a WebDataset sample; null reads nothing. Usual names are known."""
    images: Names = []
    """Path patterns of the images; the first that matches counts. Empty: the layout is detected."""
    masks: str | None = None
    """Path pattern of the masks; the fields it shares with the image must agree."""
    ignore: list[str] = []
    """Globs of paths that are no part of the set, such as `*/Thumbs.db`."""
    classes: dict[str, list[str]] | list[str] = []
    """The classes in label order, with other spellings; empty: the names found, sorted."""
    tables: list[LabelTable] = []
    """Files that tell labels, groups or splits."""
    group: str | None = None
    """A regular expression on the path whose first bracket is the group, where `{group}` of a pattern cannot say it."""
    splits: Splits = Splits()
    """Given, renamed or made splits."""
    subset_from: list[Subset] = []
    """Released subset folders, which set the order in which samples enter smaller subsets."""

    crop: Size | None = None
    """Height and width of the centre that is kept, before resizing."""
    size: Size | None = None
    """Height and width of every stored image; without it, sizes stay."""
    fit: Literal["squeeze", "crop", "pad"] = "squeeze"
    """How an image of another shape gets to `size`."""
    channels: Literal[1, 3] | None = None
    """1 makes all grey; 3 makes RGB, but keeps the bytes of grey files where it can: readers repeat the channel."""
    background: Grey | tuple[Grey, Grey, Grey] = 0
    """What is put behind transparent pixels and around padded images."""
    window: tuple[float, float] | None = None
    """The grey values shown as black and white, for 16-bit, 32-bit and float images."""
    mask_values: dict[int, Grey] = {}
    """Mask values of the source and what is stored for them; without it, values stay."""
    masks_turned: bool | None = None
    """Whether masks lie as images with an EXIF orientation are looked at (true) or as they are stored (false, so that
    they are turned too). Without it their size decides, and where it fits both ways they are turned."""
    store: Literal["auto", "png", "jpeg", "npy"] = "auto"
    """`auto` keeps the bytes of JPEG, PNG and array sources where nothing changes, else PNG."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Of JPEG, where `store` is jpeg."""
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    """An image with more is refused unread, so that memory stays bounded."""

    opaque_keys: bool = False
    """Drop file names and group names from everything that is written."""
    shard_samples: Annotated[int, Field(ge=1)] = 1000
    """At most this many samples in a shard."""
    shard_megabytes: Annotated[int, Field(ge=1)] = 128
    """At most about this much in a shard."""
    on_bad: Literal["fail", "skip"] = "fail"
    """What to do with bad samples where the command does not say."""
    on_leak: Literal["fail", "report"] = "fail"
    """What to do with leaks between splits where the command does not say."""

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
        """The names in label order; empty where the recipe leaves them to the source."""
        return list(self.classes)

    def aliases(self) -> dict[str, str]:
        """Every spelling the recipe knows, and the class it means."""
        if not isinstance(self.classes, dict):
            return {name: name for name in self.classes}
        return {spelling: name for name, others in self.classes.items() for spelling in [name, *others]}


FIELDS = frozenset({"class", "split", "group", "id", "ext", "name", "*", "**"})
"""What may stand in braces in a path pattern."""


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
    """`64` or `240x256` (height x width) as `(height, width)`.

    Raises:
        ValueError: it is neither.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(p.strip().isdigit() and 0 < int(p) < 65536 for p in parts):
        raise ValueError(f"{text!r} is no size: give N or HxW")
    return int(parts[0]), int(parts[-1])


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: with everything that is wrong in it.
    """
    if not path.is_file():
        raise NotFoundError("no such recipe", where=str(path))
    document = read_yaml(path)
    recipe = validate(Recipe, document)
    if recipe.container is not None and recipe.container not in SOURCES:
        try:
            SOURCES.find(recipe.container)
        except UsageError as e:
            where = document.where(("container",))
            raise ConfigError([Problem(where=where, error=e.error, hint=e.hint)]) from e
    return recipe
