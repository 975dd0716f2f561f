"""Decode an image or a mask strictly to 8-bit pixels, by stated rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medvq.shards.image import pillow
from medvq.shards.image.arrays import Pixels, array_bytes_can_be_kept, by_numpy, check_size, to_8_bits
from medvq.shards.image.bad import BadImage
from medvq.shards.image.sniff import describe, sniff
from medvq.shards.image.strip import Kept, Plain, plain_jpeg, plain_png

if TYPE_CHECKING:
    from medvq.config.recipe import Recipe

RULES = {
    "orientation": "turned and mirrored as its EXIF orientation says",
    "1-bit": "1-bit grey to 0 and 255",
    "palette": "palette colours looked up; a palette of greys gives grey",
    "alpha": "transparent pixels laid over the background {background}",
    "cmyk": "CMYK to RGB by Pillow's formula, no colour profile",
    "colour space": "YCbCr, Lab or HSV to RGB by Pillow",
    "16-bit": "16-bit grey to 8 bits by the full range, 65535 to 255",
    "16-bit colour": "16-bit colour to 8 bits by its high byte",
    "float": "float grey from 0..1 to 0..255",
    "window": "grey values {window} to 0..255, clipped",
    "first frame": "the first frame of an animation or of several pages",
    "luma": "RGB to grey by ITU-R 601 luma, as the recipe asks for 1 channel",
    "crop": "the centre that the recipe names, with background {background} where the image is smaller",
    "resize": "resized by Pillow's antialiased bilinear filter; masks by nearest neighbour",
    "jpeg": "encoded as JPEG of quality {quality}, 4:4:4; mean and std are of the pixels before",
    "container": "stored in another file format, pixels unchanged",
    "mask orientation": "a mask turned with its image, though its size would fit either way",
    "mask luma": "a coloured mask to grey by ITU-R 601 luma",
    "mask values": "mask values as the recipe maps them",
}
"""Conversions that packing may apply. A manifest lists those that were applied, with the values of the recipe."""

_NPY = b"\x93NUMPY"


@dataclass(frozen=True)
class Decoded:
    """An image as pixels, before the recipe's crop and size."""

    pixels: Pixels
    kept: Kept | None
    """The bytes to store if no pixel changes; None if a conversion was needed."""
    ext: str
    """`jpg`, `png` or `npy`: the format of `kept`."""
    orientation: int
    """EXIF orientation, 1 to 8, not yet applied to `pixels`."""
    rules: list[str]
    """Keys of `RULES` that were applied."""
    highest: int = 0
    """The largest 16-bit value, for grey that was scaled by the full range of 16 bits; else 0."""


def decode(data: bytes, recipe: Recipe) -> Decoded:
    """Decode an image strictly: damage that a tolerant decoder fills with grey is an error.

    Raises:
        BadImage: `data` is no image, is damaged or cut short, has too many pixels, or needs a rule that the recipe does
            not give.
    """
    kind = sniff(data[:64])
    rules: list[str] = []
    if kind is None:
        if data.startswith(_NPY):
            pixels, rules, highest = _in_8_bits(*by_numpy(data, recipe), recipe)
            kept = Kept(data, ((0, len(data)),)) if array_bytes_can_be_kept(data, pixels) else None
            return Decoded(pixels, kept, "npy", 1, rules, highest)
        raise BadImage(describe(data[:512]))
    if kind not in ("jpeg", "png"):
        pixels, rules, highest = _in_8_bits(*pillow.decode(data, kind, recipe), recipe)
        return Decoded(pixels, None, "png", pillow.orientation(data, kind), rules, highest)
    plain = plain_jpeg(data) if kind == "jpeg" else plain_png(data)
    check_size(plain.width, plain.height, recipe)
    if kind == "jpeg" and plain.simple:
        pixels, highest = _decode_jpeg(plain), 0
    else:
        pixels, rules, highest = _in_8_bits(*pillow.decode(plain.data, kind, recipe), recipe)
        if kind == "png" and plain.depth == 16 and plain.components > 2:
            rules = [*rules, "16-bit colour"]
    kept = Kept(plain.data, plain.pieces) if plain.simple and not rules else None
    ext = "jpg" if kind == "jpeg" else "png"
    return Decoded(pixels, kept, ext, pillow.exif_orientation(plain.exif), rules, highest)


def decode_mask(data: bytes, recipe: Recipe) -> Decoded:
    """Decode a mask to (H, W) and keep its values; a palette mask gives its indices.

    Raises:
        BadImage: as `decode`, or the mask holds values above 255.
    """
    kind = sniff(data[:64])
    if kind is None:
        raise BadImage(describe(data[:512]))
    kept = None
    if kind == "png":
        plain = plain_png(data)
        check_size(plain.width, plain.height, recipe)
        kept = Kept(plain.data, plain.pieces) if plain.simple and plain.components == 1 else None
        data = plain.data
    elif kind == "jpeg":
        plain_jpeg(data)
    image, _ = pillow.load(data, kind, recipe)
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("RGB", "RGBA", "LA", "CMYK", "YCbCr", "PA"):
        pixels = pillow.without_equal_channels(np.array(image.convert("RGB")))
        if pixels.ndim == 3:
            return Decoded(np.array(image.convert("L")), None, "png", 1, ["mask luma"])
        return Decoded(pixels, None, "png", 1, [])
    values = np.array(image)
    if values.dtype == np.uint8:
        return Decoded(values, kept, "png", 1, [])
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise BadImage("mask values are not whole numbers")
    if values.size and (values.min() < 0 or values.max() > 255):
        raise BadImage(f"mask values from {values.min()} to {values.max()}, above 255")
    return Decoded(values.astype(np.uint8), None, "png", 1, [])


def _in_8_bits(values: NDArray[Any], rules: list[str], recipe: Recipe) -> tuple[Pixels, list[str], int]:
    """Return `values` as 8-bit pixels, the rules that were applied, and `Decoded.highest`."""
    if values.dtype == np.uint8:
        return values, rules, 0
    pixels, rule = to_8_bits(values, recipe.window)
    return pixels, [*rules, rule], int(values.max()) if rule == "16-bit" else 0


def _decode_jpeg(plain: Plain) -> Pixels:
    """Return (H, W) or (H, W, 3) pixels of a JPEG with 8-bit grey or colour.

    Raises:
        BadImage: it is damaged.
    """
    import simplejpeg  # type: ignore[import-untyped]

    try:
        if plain.components == 1:
            grey: Pixels = simplejpeg.decode_jpeg(plain.data, "GRAY", strict=True)
            return grey[:, :, 0]
        colour: Pixels = simplejpeg.decode_jpeg(plain.data, "RGB", strict=True)
    except (ValueError, MemoryError) as e:
        raise BadImage(f"damaged JPEG: {str(e).strip().rstrip('.') or 'it does not decode'}") from e
    return colour
