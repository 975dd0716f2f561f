"""The schema of a study's data: where images come from, and which of them a job reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from medvq.config.augment import Augment
from medvq.config.schema import Schema

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
NEUTRAL: dict[str, Any] = {"neutral": True}


def _square(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


Size = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
    BeforeValidator(_square),
]


class Synthetic(Schema):
    """A synthetic dataset that is drawn and packed when the study starts."""

    name: Literal["smear"]
    """What to draw: `smear` is the blood smear of `medvq synth smear`."""
    samples: int = Field(ge=30)
    """Number of images in all splits together."""
    size: int = Field(ge=16, le=1024)
    """Width and height in pixels."""
    seed: int = Field(default=0, ge=0, json_schema_extra=NEUTRAL)
    """Seed of the images; the same seed and size give the same images."""


class Ingredient(Schema):
    """One dataset of a mixture."""

    dataset: str | None = None
    """Name of a dataset folder under `--datasets`, or a path to one; by default the name of this entry."""
    synth: Synthetic | None = None
    """Draw a synthetic dataset instead (smoke tests)."""
    weight: float = Field(default=1.0, gt=0)
    """How often an image of this dataset is drawn, relative to one of weight 1."""
    resize: Size | None = None
    """Height and width in pixels to which whole images are resized."""
    crop: Size | None = None
    """Height and width of a window that is cut out instead: anywhere in training, otherwise from the centre."""

    @model_validator(mode="after")
    def _one_fit(self) -> Ingredient:
        if self.resize and self.crop:
            raise ValueError("resize and crop exclude each other")
        return self


class Source(Schema):
    """An entry of `data`: a packed dataset or a mixture of several, as jobs see it."""

    dataset: str | None = None
    """Name of a dataset folder under `--datasets`, or a path to one."""
    synth: Synthetic | None = None
    """Draw a synthetic dataset instead (smoke tests)."""
    mix: dict[Name, Ingredient] = Field(default={}, json_schema_extra=NEUTRAL)
    """Several datasets that are read together, by name."""
    size: Size | None = None
    """Height and width of the network's input in pixels; by default the size of the images."""
    channels: Literal[1, 3] = 3
    """1 reads grey images, 3 reads RGB."""
    classes: tuple[str, ...] | None = None
    """Classes, in order, that the dataset must have; by default those of the dataset."""
    splits: Literal["all"] | None = Field(default=None, json_schema_extra=NEUTRAL)
    """`all` trains on the images of every split. Such a run has no validation and no test."""
    draws: int | None = Field(default=None, ge=1, json_schema_extra=NEUTRAL)
    """Training images per epoch, drawn with replacement by weight; by default as many as there are."""
    evaluate: tuple[Literal["val+test", "train"], ...] = Field(default=(), json_schema_extra=NEUTRAL)
    """Further measurements at the end: `val+test` is the two splits together, for papers that did not separate them;
    `train` is the training images, each once and not augmented."""

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        if self.mix and (self.dataset or self.synth):
            raise ValueError("a mixture names its datasets in `mix`, not in `dataset` or `synth`")
        sizes = {s for i in self.mix.values() for s in (i.resize, i.crop) if s}
        if len({*sizes, *([self.size] if self.size else [])}) > 1:
            raise ValueError("all datasets of a mixture must have one size after resize or crop")
        if self.mix and not sizes and not self.size:
            raise ValueError("a mixture needs a size: its own, or a resize or crop of its datasets")
        if self.splits == "all" and self.evaluate:
            raise ValueError("splits: all leaves nothing to evaluate")
        return self

    @property
    def shape(self) -> tuple[int, int] | None:
        """(H, W) of the network's input, if the study gives it."""
        fits = (s for i in self.mix.values() for s in (i.resize, i.crop) if s)
        return self.size or next(fits, None)

    @property
    def held_out(self) -> tuple[str, ...]:
        """The splits that are held out, validation first; none if every image is trained on."""
        return () if self.splits == "all" else ("val", "test")

    @property
    def measured(self) -> tuple[str, ...]:
        """The splits that the metrics of a result describe."""
        return (*(self.held_out or ("train",)), *self.evaluate)

    def origins(self, name: str) -> Mapping[str, Source | Ingredient]:
        """Return its datasets by name: `name` itself, or `name.part` for every part of a mixture."""
        if not self.mix:
            return {name: self}
        return {
            f"{name}.{part}": i if i.dataset or i.synth else i.model_copy(update={"dataset": part})
            for part, i in self.mix.items()
        }


class ViewConfig(Schema):
    """Which data a job reads, and how."""

    use: str
    """The entry of `data` to read."""
    subset: float = Field(default=100.0, gt=0, le=100)
    """Percentage of every class of the training split. Subsets are nested: the 10 % are part of the 50 %."""
    draw: int = Field(default=0, ge=0)
    """Which of several rankings the subset is taken from; another number draws other images."""
    limit: int | None = Field(default=None, ge=1, json_schema_extra=NEUTRAL)
    """Largest number of training images; classes keep their proportions."""
    balance: Literal["none", "class"] = "none"
    """`class` draws training images with replacement, all classes equally often."""
    masks: bool = Field(default=False, json_schema_extra=NEUTRAL)
    """Give the task every training image a second time, with noise outside its mask."""
    mask_copies: bool = Field(default=False, json_schema_extra=NEUTRAL)
    """Add a copy of every training image that has a mask, black outside the mask."""
    normalize: bool = True
    """Normalize channels by the mean and standard deviation of the training split."""
    augment: Augment = Augment()
    """Random changes of training images."""
