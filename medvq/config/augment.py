"""The schema of random changes of training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from medvq.config.schema import Schema

NEUTRAL: dict[str, Any] = {"neutral": True}


def _short(key: str) -> BeforeValidator:
    """Return a validator that reads `0.2` as `{key: 0.2}`, and 0 as off."""

    def read(value: Any) -> Any:
        if isinstance(value, bool | Mapping | Schema) or value is None:
            return value
        return None if value == 0 else {key: value}

    return BeforeValidator(read)


def _range(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the lower end {value[0]:g} is above the upper end {value[1]:g}")
    return value


Probability = Annotated[float, Field(default=1.0, gt=0, le=1, json_schema_extra=NEUTRAL)]
Range = Annotated[tuple[float, float], BeforeValidator(_range), AfterValidator(_ordered)]


class Factor(Schema):
    """A factor drawn for each image, uniform in [1 - strength, 1 + strength]; 1 changes nothing."""

    strength: float = Field(gt=0, le=1)
    """Largest distance of the factor from 1, in (0, 1]."""
    p: Probability
    """Probability that an image is changed, in (0, 1]."""


class Hue(Schema):
    """A rotation of the colour circle, uniform in [-strength, strength]."""

    strength: float = Field(gt=0, le=0.5)
    """Largest rotation in turns, in (0, 0.5]; 0.5 swaps every colour with its complement."""
    p: Probability
    """Probability that an image is changed, in (0, 1]."""


class Translate(Schema):
    """A shift across and down, each uniform in [-fraction, fraction] of the side, in whole pixels."""

    fraction: float = Field(gt=0, lt=1)
    """Largest shift as a fraction of the side, in (0, 1)."""
    p: Probability
    """Probability that an image is changed, in (0, 1]."""


class Scale(Schema):
    """Enlarge about the centre by a factor uniform in `factor`; below 1 the image shrinks."""

    factor: Annotated[tuple[float, float], AfterValidator(_ordered)]
    """Lowest and highest factor, both positive."""
    p: Probability
    """Probability that an image is changed, in (0, 1]."""

    @model_validator(mode="after")
    def _positive(self) -> Scale:
        if self.factor[0] <= 0:
            raise ValueError(f"a factor must be positive, not {self.factor[0]:g}")
        return self


class Elastic(Schema):
    """Displace a coarse grid of control points at random and interpolate between them (Ronneberger et al. 2015, U-Net).

    Each control point moves by normal draws across and down. Between the points the displacement is bicubic.
    """

    displacement: float = Field(gt=0)
    """Standard deviation in pixels of how far a control point moves, across and down."""
    spacing: float = Field(ge=2)
    """Distance in pixels between control points. A larger distance bends more smoothly."""
    p: Probability
    """Probability that an image is changed, in (0, 1]."""

    @model_validator(mode="after")
    def _no_fold(self) -> Elastic:
        if self.displacement > self.spacing / 2:
            raise ValueError(
                f"displacement ({self.displacement:g}) may be at most half of spacing ({self.spacing:g}): "
                "more would fold the image over itself"
            )
        return self


class Blur(Schema):
    """A Gaussian blur with a standard deviation uniform in `sigma`."""

    sigma: Range
    """Lowest and highest standard deviation in pixels, at least 0; one number stands for both."""
    p: Probability
    """Probability that an image is changed, in (0, 1]."""

    @model_validator(mode="after")
    def _some(self) -> Blur:
        _check_spread("sigma", self.sigma)
        return self


class Noise(Schema):
    """Normal noise, drawn for every pixel and channel, with a standard deviation uniform in `std`."""

    std: Range
    """Lowest and highest standard deviation, at least 0, where pixels are in [0, 1]; one number stands for both."""
    p: Probability
    """Probability that an image is changed, in (0, 1]."""

    @model_validator(mode="after")
    def _some(self) -> Noise:
        _check_spread("std", self.std)
        return self


def _check_spread(name: str, value: tuple[float, float]) -> None:
    """Raise ValueError unless 0 <= low and 0 < high."""
    if value[0] < 0 or value[1] <= 0:
        raise ValueError(f"{name} must not be negative, and its upper end must be above 0")


class Augment(Schema):
    """Random changes of training images. All are off by default, and evaluation never sees them.

    Every image gets parameters of its own, drawn by (seed, step, purpose) for the global batch. Images change in this
    order: colour (brightness, contrast, saturation, hue), flips, one resampling for all of rotation, scale, translation
    and elastic deformation, blur, noise. Colour, blur and noise work on pixels in [0, 1] and clip to that range. Flips
    and the resampling move an image together with its mask.

    Each change is a mapping with its amount and a probability `p`, or the amount alone: `brightness: 0.2` is
    `brightness: {strength: 0.2, p: 1}`. The amount 0 is off.
    """

    flip: bool = False
    """Mirror left-right and top-bottom, each with probability 1/2."""
    rotate: float = Field(default=0.0, ge=0, le=180)
    """Rotate by an angle uniform in [-rotate, rotate] degrees."""
    fill: Literal["mean", "black"] = Field(default="mean", json_schema_extra=NEUTRAL)
    """What a moved image shows where nothing was before: the dataset's mean colour, or black."""
    scale: Annotated[Scale | None, _short("factor")] = Field(default=None, json_schema_extra=NEUTRAL)
    """Enlarge or shrink: `[0.9, 1.1]`, the lowest and highest factor."""
    translate: Annotated[Translate | None, _short("fraction")] = Field(default=None, json_schema_extra=NEUTRAL)
    """Shift: `0.1` moves by at most a tenth of the side, across and down."""
    elastic: Elastic | None = Field(default=None, json_schema_extra=NEUTRAL)
    """Deform smoothly: `{displacement: 2, spacing: 16}`, in pixels."""
    brightness: Annotated[Factor | None, _short("strength")] = Field(default=None, json_schema_extra=NEUTRAL)
    """Multiply pixels: `0.2` draws factors in [0.8, 1.2]."""
    contrast: Annotated[Factor | None, _short("strength")] = Field(default=None, json_schema_extra=NEUTRAL)
    """Multiply the distance of pixels from the image's mean luminance: `0.2` draws factors in [0.8, 1.2]."""
    saturation: Annotated[Factor | None, _short("strength")] = Field(default=None, json_schema_extra=NEUTRAL)
    """Multiply the distance of pixels from their own luminance: `0.2` draws factors in [0.8, 1.2]. RGB only."""
    hue: Annotated[Hue | None, _short("strength")] = Field(default=None, json_schema_extra=NEUTRAL)
    """Rotate the colour circle, as another stain would: `0.05` turns by at most 18 degrees. RGB only."""
    blur: Annotated[Blur | None, _short("sigma")] = Field(default=None, json_schema_extra=NEUTRAL)
    """Blur: `[0.1, 2.0]`, the lowest and highest standard deviation in pixels."""
    noise: Annotated[Noise | None, _short("std")] = Field(default=None, json_schema_extra=NEUTRAL)
    """Add normal noise: `[0, 0.05]`, its lowest and highest standard deviation where pixels are in [0, 1]."""

    @property
    def changes_colour(self) -> bool:
        """Whether brightness, contrast, saturation or hue is on."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    @property
    def degrades(self) -> bool:
        """Whether blur or noise is on."""
        return bool(self.blur or self.noise)

    @property
    def rgb_only(self) -> tuple[str, ...]:
        """Names of the changes that are on and need three channels."""
        return tuple(name for name in ("saturation", "hue") if getattr(self, name))
