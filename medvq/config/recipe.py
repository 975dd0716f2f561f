"""A recipe: how a source of images becomes a dataset. All paths in it are relative to the source."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from medvq.config.recipe_text import check_pattern, parse_size
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
    """Return `512` as `(512, 512)` and `240x256` as `(240, 256)`."""
    if isinstance(value, str):
        return parse_size(value)
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _codec(value: str | None) -> str | None:
    try:
        return None if value is None else codecs.lookup(value).name
    except LookupError as e:
        raise ValueError(f"{value!r} is no encoding; common ones are utf-8, cp1251, cp1252, gb18030, shift_jis") from e


Side = Annotated[int, Field(ge=1, le=65535)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_pair)]
Share = Annotated[float, Field(gt=0, lt=1)]
Names = Annotated[list[str], BeforeValidator(_several)]
Grey = Annotated[int, Field(ge=0, le=255)]


class Made(Schema):
    """A split to make, because the source has none of that name."""

    of: str = "train"
    """The split from which samples are taken."""
    share: Share
    """The share of every class to take, of the split as it is before any other split is made."""


def _made(value: Any) -> Any:
    return {"share": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Splits(Schema):
    """Which sample is in which split. Without this, `{split}` of the path or a table decides, else all are in train."""

    names: dict[str, str] = {}
    """Names of splits in the source and the splits they mean, such as `Training: train`. Usual names are known."""
    lists: dict[str, str] = {}
    """Text files with one id or path per line, by split, such as `train: ImageSets/Main/train.txt`."""
    make: dict[str, Annotated[Made, BeforeValidator(_made)]] = {}
    """Splits to make: no group in two splits, stratified by class, copies of an image together."""
    seed: int = 0
    """Seed of the splits to make."""
    keep: list[str] | None = None
    """Pack only these splits, and ignore images of others."""

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
    """A table (CSV, TSV or with semicolons) with labels, groups or splits of the images."""

    file: str
    """Its path, relative to the source. It may lie outside, such as `../split.csv`."""
    id: str | list[str]
    """The column with the name of the image, or several columns to join by `format`."""
    match: Literal["id", "path", "stem"] = "id"
    """`id`: the value is the `{id}` of the path. `path`: the value is a path with the same end as that of the image.
    `stem`: the value is a file name, and is compared without its folders and suffix."""
    encoding: Annotated[str | None, AfterValidator(_codec)] = None
    """Encoding of the file, such as `cp1251` or `gb18030`. Default: UTF-8, UTF-16, or Windows-1252 if the
    text proves it."""
    format: str | None = None
    """Python format that makes an id of the value, such as `BloodImage_{:05d}` for a number."""
    label: str | None = None
    """The column with the class."""
    one_hot: list[str] = []
    """Columns for a class each, of which one is 1."""
    otherwise: str | None = None
    """The class of a row in which no column of `one_hot` is 1."""
    values: dict[str, str] = {}
    """Values of the label column and the classes they mean."""
    group: str | None = None
    """The column with the group (patient, lesion, slide). It must agree with `{group}` of the path."""
    split: str | None = None
    """The column with the split. It must agree with `{split}` of the path."""
    complete: bool = True
    """Whether an image without a row is a bad sample. Set it to false if the table covers only some images.

    The other images then have no group and are in train. If any image has a label, an image without one is a bad
    sample all the same.
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
    """Its share of the training split in percent, such as 10."""
    images: str
    """The path pattern of its images, relative to the source."""


class Release(Schema):
    """An official release of a dataset that is one file, as its publisher describes it."""

    name: str
    """What it is called, such as `MedMNIST v3`."""
    splits: dict[str, int]
    """Number of images in each split."""
    md5: dict[str, str]
    """The published md5, in hex, of each file of the release by its name."""


class Recipe(Schema):
    """How a source becomes a dataset.

    Path patterns (`images`, `masks`) contain fields: `{class}`, `{split}`, `{group}`, `{id}`, `{ext}`, `{name}` (the
    whole name of the file), `{*}` (anything within one folder), `{**}` (anything). A field that occurs twice must match
    the same text both times.
    """

    name: str | None = None
    """The name of the dataset. Default: the name of the source folder."""
    about: str = ""
    """One or two sentences on what the dataset is and what is special about it."""
    licence: str = ""
    """Terms under which the images may be used, and where they are stated."""
    source: str = ""
    """Where the images come from, such as a URL. For people only."""
    cite: str = ""
    """What to cite."""

    official: list[Release] = []
    """Official releases. A note says if the file that is packed is none of them."""
    container: str | None = None
    """What the source is: `folder`, `npz`, `webdataset`, or the import path of a class of your own such as
    `my_lab.sources:MySource` (see `medvq.shards.source.base.Source`). Without it, this is detected."""
    metadata: dict[Literal["class", "split", "group", "id"], str | None] = {}
    """Names under which the container itself stores what is known of an image, such as `{group: patient_id}` for a key
    in the JSON of a WebDataset sample; null reads nothing. Usual names are known."""
    images: Names = []
    """Path patterns of the images. The first that matches counts. Default: the layout is detected."""
    masks: str | None = None
    """Path pattern of the masks. Fields that it shares with the pattern of the image must agree."""
    ignore: list[str] = []
    """Globs of paths to ignore, such as `*/Thumbs.db`."""
    links: Names = []
    """Folders into which links of the source may lead, relative to it or absolute. Other links are ignored."""
    classes: dict[str, list[str]] | list[str] = []
    """The classes in label order, with other spellings. The exact spelling counts first; else case, blanks, `_` and `-`
    do not matter. Every class of the source must be named here or in `drop_classes`. Default: the names
    found, sorted."""
    drop_classes: list[str] = []
    """Classes of the source whose images are ignored, in their exact spelling."""
    tables: list[LabelTable] = []
    """Tables with labels, groups or splits."""
    group: str | None = None
    """A regular expression on the path whose first bracket is the group, if a pattern cannot express it."""
    unite_groups: bool = False
    """Whether groups that differ only in case, blanks, `_`, `-`, leading zeros or a final `.0` are the same, such as 7,
    007 and 7.0."""
    splits: Splits = Splits()
    """Splits to rename, keep or make."""
    subset_from: list[Subset] = []
    """Released smaller training sets. They set the order in which samples enter smaller subsets."""

    crop: Size | None = None
    """Height and width of the centre to keep, in pixels, before resizing."""
    size: Size | None = None
    """Height and width of every stored image, in pixels. Default: sizes are kept."""
    fit: Literal["squeeze", "crop", "pad"] = "squeeze"
    """How an image with another aspect ratio is fitted to `size`."""
    channels: Literal[1, 3] | None = None
    """1 makes all images grey, 3 makes them RGB. Grey files may keep their bytes: readers repeat the channel."""
    background: Grey | tuple[Grey, Grey, Grey] = 0
    """Value behind transparent pixels and around padded images."""
    window: tuple[float, float] | dict[Literal["integer", "float"], tuple[float, float]] | None = None
    """The grey values that become black and white, for images of 16 or 32 bits or float. With `integer` and `float`,
    one for each kind: `{integer: [0, 4095], float: [0, 1]}`."""
    mask_values: dict[int, Grey] = {}
    """Mask values of the source and the values to store for them. Default: values are kept."""
    masks_turned: bool | None = None
    """Orientation of masks of images with an EXIF orientation: true if masks are upright already, false if they lie as
    the pixels are stored and must be turned too. Default: their size decides, and if both fit they are turned."""
    store: Literal["auto", "png", "jpeg", "npy"] = "auto"
    """Format of stored images. `auto` keeps the bytes of JPEG, PNG and arrays if nothing changes, else writes PNG."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """JPEG quality, if `store` is `jpeg`."""
    pages: Literal["first", "all"] = "first"
    """`all` makes a sample of every page of a TIFF and every frame of an animation. Pages of one file are one group."""
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    """An image with more pixels is a bad sample and is not decoded, to bound the memory."""

    opaque_keys: bool = False
    """Leave file names and group names out of everything that is written."""
    shard_samples: Annotated[int, Field(ge=1)] = 1000
    """Largest number of samples in a shard."""
    shard_megabytes: Annotated[int, Field(ge=1)] = 128
    """Approximate largest size of a shard, in megabytes."""
    on_bad: Literal["fail", "skip"] = "fail"
    """What to do with bad samples, unless the command says."""
    on_leak: Literal["fail", "report"] = "fail"
    """What to do with leaks between splits, unless the command says."""

    @field_validator("window")
    @classmethod
    def _rising(cls, value: Any) -> Any:
        windows = value.values() if isinstance(value, dict) else [value] if value is not None else []
        if any(black >= white for black, white in windows):
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
            check_pattern(text)
        return value

    @field_validator("classes")
    @classmethod
    def _one_class_each(cls, value: dict[str, list[str]] | list[str]) -> dict[str, list[str]] | list[str]:
        pairs = [(n, n) for n in value] if isinstance(value, list) else []
        if isinstance(value, dict):
            pairs = [(spelling, name) for name, others in value.items() for spelling in {name, *others}]
        seen: dict[str, str] = {}
        for spelling, name in pairs:
            if spelling in seen:
                raise ValueError(f"{spelling!r} is listed twice, for {seen[spelling]} and {name}")
            seen[spelling] = name
        return value

    def window_of(self, kind: str) -> tuple[float, float] | None:
        """Return the window for values of a kind of numpy's types: `f` for float, others for whole numbers."""
        if isinstance(self.window, dict):
            return self.window.get("float" if kind == "f" else "integer")
        return self.window

    def class_names(self) -> list[str]:
        """Return the names in label order; empty if the recipe leaves them to the source."""
        return list(self.classes)

    def aliases(self) -> dict[str, str]:
        """Return every spelling of the recipe and the class it means."""
        if not isinstance(self.classes, dict):
            return {name: name for name in self.classes}
        return {spelling: name for name, others in self.classes.items() for spelling in [name, *others]}


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: something in it is wrong. It lists everything.
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
