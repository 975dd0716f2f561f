"""Decode an image or a mask strictly to 8-bit pixels, by stated rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medvq.shards.image import pillow
from medvq.shards.image.arrays import Pixels, array_bytes_can_be_kept, by_numpy, check_size, to_8_bits
from medvq.shards.image.bad import BadImage
from medvq.shards.image.remarks import Remarks, heard
from medvq.shards.image.sniff import describe, sniff
from medvq.shards.image.strip import Kept, Plain, plain_jpeg, plain_png
from medvq.shards.image.tiff import TiffPixels, tiff_pixels

if TYPE_CHECKING:
    from PIL import Image

    from medvq.config.recipe import Recipe

RULES = {
    "orientation": "turned and mirrored as its EXIF orientation says",
    "1-bit": "1-bit grey to 0 and 255",
    "palette": "palette colours looked up; a palette of greys gives grey",
    "alpha": "transparent pixels laid over the background {background}",
    "cmyk": "CMYK to RGB by Pillow's formula, no colour profile",
    "colour space": "YCbCr, Lab or HSV to RGB by Pillow",
    "white is zero": "inverted, as the TIFF says that 0 is white",
    "extra channels": "channels beside grey, colour and alpha dropped",
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
    "mask alpha": "a mask from the alpha channel of a file with one colour",
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
    remarks: Remarks = field(default_factory=dict)
    """What a person should know about how it was read."""
    highest: int = 0
    """The largest 16-bit value, for grey that was scaled by the full range of 16 bits; else 0."""


def decode(data: bytes, recipe: Recipe) -> Decoded:
    """Decode an image strictly: damage that a tolerant decoder fills with grey is an error.

    Raises:
        BadImage: `data` is no image, is damaged or cut short, has too many pixels, or needs a rule that the recipe does
            not give.
    """
    kind = sniff(data[:64])
    remarks: Remarks = {}
    rules: list[str] = []
    if kind is None:
        if data.startswith(_NPY):
            pixels, rules, highest = _in_8_bits(*by_numpy(data, recipe), recipe, remarks)
            kept = Kept(data, ((0, len(data)),)) if array_bytes_can_be_kept(data, pixels) else None
            return Decoded(pixels, kept, "npy", 1, rules, remarks, highest)
        raise BadImage(describe(data[:512]))
    if kind not in ("jpeg", "png"):
        with heard(remarks):
            values, rules = pillow.decode(data, kind, recipe, remarks)
            turn = pillow.orientation(data, kind)
        inverted = False
        if kind == "tiff" and (facts := tiff_pixels(data)):
            inverted = facts.white_is_zero and values.dtype != np.uint8
            rules, remarks = _tiff_rules(rules, remarks, facts, values)
        elif kind == "pnm" and values.ndim == 3 and _is_deep_pnm(data):
            rules, remarks = [*rules, "16-bit colour"], {**remarks, "16-bit colour": ""}
        pixels, rules, highest = _in_8_bits(values, rules, recipe, remarks)
        if inverted:
            pixels, rules, highest = 255 - pixels, [*rules, "white is zero"], 0
        return Decoded(pixels, None, "png", turn, rules, remarks, highest)
    plain = plain_jpeg(data) if kind == "jpeg" else plain_png(data)
    check_size(plain.width, plain.height, recipe)
    if plain.frames > 1:
        remarks["pages"] = f"{plain.frames} frames"
    if kind == "jpeg" and plain.simple:
        pixels, highest = _decode_jpeg(plain), 0
    else:
        with heard(remarks):
            values, rules = pillow.decode(plain.data, kind, recipe, remarks)
        pixels, rules, highest = _in_8_bits(values, rules, recipe, remarks)
        if kind == "png" and plain.depth == 16 and plain.components > 1:
            rules, remarks = [*rules, "16-bit colour"], {**remarks, "16-bit colour": ""}
    kept = Kept(plain.data, plain.pieces) if plain.simple and not rules else None
    ext = "jpg" if kind == "jpeg" else "png"
    return Decoded(pixels, kept, ext, pillow.exif_orientation(plain.exif), rules, remarks, highest)


def _tiff_rules(
    rules: list[str], remarks: Remarks, facts: TiffPixels, values: NDArray[Any]
) -> tuple[list[str], Remarks]:
    """Return rules and remarks with what Pillow did to the pixels of a TIFF without saying so."""
    if facts.extra:
        # Pillow calls the further channel of grey images alpha, and fills it with 255.
        rules = [*(r for r in rules if r != "alpha"), "extra channels"]
        remarks = {**remarks, "extra channels": f"{facts.samples} channels"}
    if facts.bits > 8 and (values.ndim == 3 or (facts.samples > 1 and values.dtype == np.uint8)):
        rules, remarks = [*rules, "16-bit colour"], {**remarks, "16-bit colour": ""}
    return rules, remarks


def _is_deep_pnm(data: bytes) -> bool:
    """Return whether a colour PNM has more than 8 bits."""
    words = re.sub(rb"#[^\n]*", b"", data[:512]).split()
    return words[0] in (b"P3", b"P6") and len(words) > 3 and words[3].isdigit() and int(words[3]) > 255


def decode_mask(data: bytes, recipe: Recipe) -> Decoded:
    """Decode a mask to (H, W) and keep its values; a palette mask gives its indices.

    A file with one colour and several values of alpha is a mask in its alpha channel.

    Raises:
        BadImage: as `decode`, or the mask holds values above 255, or its colours and its alpha channel contradict each
            other.
    """
    kind = sniff(data[:64])
    if kind is None:
        raise BadImage(describe(data[:512]))
    kept, remarks = None, Remarks()
    if kind == "png":
        plain = plain_png(data)
        check_size(plain.width, plain.height, recipe)
        kept = Kept(plain.data, plain.pieces) if plain.simple and plain.components == 1 else None
        data = plain.data
        if plain.frames > 1:
            remarks["mask pages"] = f"{plain.frames} frames"
    elif kind == "jpeg":
        plain_jpeg(data)
    with heard(remarks):
        image, frames = pillow.load(data, kind, recipe)
        if frames > 1:
            remarks["mask pages"] = f"{frames} pages"
        if image.mode == "1":
            image = image.convert("L")
        if image.mode in ("RGB", "RGBA", "LA", "CMYK", "YCbCr", "PA"):
            pixels, rules = _grey_mask(image, remarks)
            return Decoded(pixels, None, "png", 1, rules, remarks)
        values = np.array(image)
    if values.dtype == np.uint8:
        return Decoded(values, kept, "png", 1, [], remarks)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise BadImage("mask values are not whole numbers")
    if values.size and (values.min() < 0 or values.max() > 255):
        raise BadImage(f"mask values from {values.min()} to {values.max()}, above 255")
    return Decoded(values.astype(np.uint8), None, "png", 1, [], remarks)


def _grey_mask(image: Image.Image, remarks: Remarks) -> tuple[Pixels, list[str]]:
    """Return the values of a mask in colour or with an alpha channel, (H, W), and the rules that were applied.

    Raises:
        BadImage: its colours and its alpha channel contradict each other.
    """
    colours = pillow.without_equal_channels(np.array(image.convert("RGB")))
    rules = ["mask luma"] if colours.ndim == 3 else []
    grey: Pixels = np.array(image.convert("L")) if colours.ndim == 3 else colours
    if image.mode not in ("RGBA", "LA", "PA"):
        return grey, rules
    alpha: Pixels = np.array(image.getchannel("A"))
    if alpha.min() == alpha.max() or not (alpha == 0).any():
        return grey, rules
    if (colours == colours[:1, :1]).all():
        remarks["mask alpha"] = ""
        return alpha, ["mask alpha"]
    visible = grey[alpha > 0]
    if (visible == visible[0]).all() and (grey[alpha == 0] != visible[0]).all():
        return grey, rules
    if grey[alpha == 0].any():
        raise BadImage("its colours and its alpha channel say different things: save the mask as grey without alpha")
    return grey, rules


def _in_8_bits(
    values: NDArray[Any], rules: list[str], recipe: Recipe, remarks: Remarks
) -> tuple[Pixels, list[str], int]:
    """Return `values` as 8-bit pixels, the rules that were applied, and `Decoded.highest`."""
    if values.dtype == np.uint8:
        return values, rules, 0
    pixels, rule = to_8_bits(values, recipe.window_of(values.dtype.kind), remarks)
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
