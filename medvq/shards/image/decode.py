"""Decode an image or a mask strictly to 8-bit pixels, by stated rules."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medvq.shards.image.arrays import (
    Pixels,
    array_bytes_can_be_kept,
    by_numpy,
    check_size,
    first_line,
    in_bands,
    to_8_bits,
)
from medvq.shards.image.bad import BadImage
from medvq.shards.image.sniff import describe, sniff
from medvq.shards.image.strip import Plain, plain_jpeg, plain_png

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
"""What may be done to pixels on the way in. A manifest lists the rules that were used, with values of the recipe."""

_NPY = b"\x93NUMPY"
_PILLOW = {"jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "tiff": "TIFF", "webp": "WEBP", "gif": "GIF", "pnm": "PPM"}


@dataclass(frozen=True)
class Decoded:
    """An image as pixels, before the recipe's crop and size."""

    pixels: Pixels
    kept: bytes | None
    """Bytes that may be stored as they are; None where something changed."""
    ext: str
    """`jpg`, `png` or `npy`, of `kept`."""
    orientation: int
    """EXIF orientation, 1 to 8, not applied yet."""
    rules: list[str]
    highest: int = 0
    """The largest value of grey that was scaled by the full range of 16 bits, before; 0 of all else."""


def decode(data: bytes, recipe: Recipe) -> Decoded:
    """Decode strictly: what a tolerant reader would fill with grey is an error here.

    Raises:
        BadImage: it is no image, is damaged or cut, has too many pixels, or needs a rule that the recipe lacks.
    """
    kind = sniff(data[:64])
    rules: list[str] = []
    if kind is None:
        if data.startswith(_NPY):
            pixels, rules, highest = _in_8_bits(*by_numpy(data, recipe), recipe)
            kept = data if array_bytes_can_be_kept(data, pixels) else None
            return Decoded(pixels, kept, "npy", 1, rules, highest)
        raise BadImage(describe(data[:512]))
    if kind not in ("jpeg", "png"):
        pixels, rules, highest = _in_8_bits(*_by_pillow(data, kind, recipe), recipe)
        return Decoded(pixels, None, "png", _pillow_orientation(data, kind), rules, highest)
    plain = plain_jpeg(data) if kind == "jpeg" else plain_png(data)
    check_size(plain.width, plain.height, recipe)
    if kind == "jpeg" and plain.simple:
        pixels, highest = strict_jpeg(plain), 0
    else:
        pixels, rules, highest = _in_8_bits(*_by_pillow(plain.data, kind, recipe), recipe)
        if kind == "png" and plain.depth == 16 and plain.components > 2:
            rules = [*rules, "16-bit colour"]
    kept = plain.data if plain.simple and not rules else None
    return Decoded(pixels, kept, "jpg" if kind == "jpeg" else "png", orientation(plain.exif), rules, highest)


def _in_8_bits(values: NDArray[Any], rules: list[str], recipe: Recipe) -> tuple[Pixels, list[str], int]:
    """`values` as pixels, the rules that did it, and `Decoded.highest`."""
    if values.dtype == np.uint8:
        return values, rules, 0
    pixels, rule = to_8_bits(values, recipe.window)
    return pixels, [*rules, rule], int(values.max()) if rule == "16-bit" else 0


def strict_jpeg(plain: Plain, *, eighth: bool = False) -> Pixels:
    """(H, W) or (H, W, 3) of a JPEG, or the means of its 8 x 8 blocks.

    Raises:
        BadImage: it is damaged.
    """
    import simplejpeg  # type: ignore[import-untyped]

    scale = {"min_height": 1, "min_width": 1, "min_factor": 1} if eighth else {}
    try:
        if plain.components == 1:
            grey: Pixels = simplejpeg.decode_jpeg(plain.data, "GRAY", strict=True, **scale)
            return grey[:, :, 0]
        colour: Pixels = simplejpeg.decode_jpeg(plain.data, "RGB", strict=True, **scale)
    except (ValueError, MemoryError) as e:
        raise BadImage(f"damaged JPEG: {str(e).strip().rstrip('.') or 'it does not decode'}") from e
    return colour


def orientation(exif: bytes | None) -> int:
    """The orientation in an EXIF block, 1 (as it is) where there is none or it makes no sense."""
    if exif is None:
        return 1
    from PIL import Image

    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(0x0112, 1)
    except Exception:  # EXIF is written by many hands, and nothing in it but this number matters here
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _pillow_orientation(data: bytes, kind: str) -> int:
    if kind != "webp":  # Pillow itself turns a TIFF; the other formats have no orientation
        return 1
    with _opened(data, kind) as image:
        value = image.getexif().get(0x0112, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _opened(data: bytes, kind: str) -> Image.Image:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Image.open(io.BytesIO(data), formats=[_PILLOW[kind]])
        except Image.DecompressionBombError as e:
            raise BadImage("it has too many pixels") from e
        except Exception as e:  # every decoder has errors of its own; all mean that this file is damaged
            raise BadImage(f"damaged {kind.upper()}: {first_line(e)}") from e


def _loaded(data: bytes, kind: str, recipe: Recipe) -> tuple[Image.Image, int]:
    """The first frame, and how many there are; they are counted by looking for the next, which damage can break."""
    image = _opened(data, kind)
    check_size(*image.size, recipe)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            frames = int(getattr(image, "n_frames", 1))
    except MemoryError as e:
        raise BadImage("it does not fit into memory") from e
    except Exception as e:  # as above
        raise BadImage(f"damaged {kind.upper()}: {first_line(e)}") from e
    return image, frames


def _by_pillow(data: bytes, kind: str, recipe: Recipe) -> tuple[NDArray[Any], list[str]]:
    """Pixels of a file, or wider numbers for `to_8_bits`, and the rules that did it."""
    image, frames = _loaded(data, kind, recipe)
    rules = ["first frame"] if frames > 1 else []
    mode = image.mode
    if mode == "P" and "transparency" in image.info:
        image, rules = image.convert("RGBA"), [*rules, "palette"]
    elif "transparency" in image.info and mode in ("1", "L", "RGB"):
        image = image.convert("RGBA" if mode == "RGB" else "LA")
    mode = image.mode
    if mode in ("L", "RGB"):
        return np.array(image), rules
    if mode == "1":
        return np.array(image.convert("L")), [*rules, "1-bit"]
    if mode == "P":
        return _without_equal_channels(np.array(image.convert("RGB"))), [*rules, "palette"]
    if mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return _over_background(image, recipe), [*rules, "alpha"]
    if mode == "CMYK":
        return np.array(image.convert("RGB")), [*rules, "cmyk"]
    if mode in ("YCbCr", "LAB", "HSV"):
        return np.array(image.convert("RGB")), [*rules, "colour space"]
    return np.asarray(image), rules


def _without_equal_channels(pixels: Pixels) -> Pixels:
    equal = (pixels[..., :1] == pixels[..., 1:]).all()
    return np.ascontiguousarray(pixels[..., 0]) if equal else pixels


def background_rgb(recipe: Recipe) -> tuple[int, int, int]:
    """The recipe's background as red, green, blue."""
    b = recipe.background
    return (b, b, b) if isinstance(b, int) else b


def _over_background(image: Image.Image, recipe: Recipe) -> Pixels:
    rgb = background_rgb(recipe)
    grey = image.mode in ("LA", "La") and len(set(rgb)) == 1
    ground = np.array(rgb[0] if grey else rgb, np.uint32)
    mode = "LA" if grey else "RGBA"

    def over(both: NDArray[np.uint8]) -> NDArray[np.uint32]:
        wide = both.astype(np.uint32)
        colour, alpha = (wide[..., 0], wide[..., 1]) if grey else (wide[..., :3], wide[..., 3:])
        return (colour * alpha + ground * (255 - alpha) + 127) // 255

    return in_bands(over, np.asarray(image if image.mode == mode else image.convert(mode)))


def decode_mask(data: bytes, recipe: Recipe) -> Decoded:
    """Decode a mask to (H, W) with its values kept: palette masks give their indices.

    Raises:
        BadImage: as `decode`, and values above 255.
    """
    kind = sniff(data[:64])
    if kind is None:
        raise BadImage(describe(data[:512]))
    kept: bytes | None = None
    if kind == "png":
        plain = plain_png(data)
        check_size(plain.width, plain.height, recipe)
        kept = plain.data if plain.simple and plain.components == 1 else None
        data = plain.data
    elif kind == "jpeg":
        plain_jpeg(data)
    (image, _), rules = _loaded(data, kind, recipe), []
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("RGB", "RGBA", "LA", "CMYK", "YCbCr", "PA"):
        colour = np.array(image.convert("RGB"))
        pixels = _without_equal_channels(colour)
        if pixels.ndim == 3:
            pixels, rules = np.array(image.convert("L")), ["mask luma"]
        return Decoded(pixels, None, "png", 1, rules)
    values = np.array(image)
    if values.dtype == np.uint8:
        return Decoded(values, kept, "png", 1, rules)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise BadImage("mask values are not whole numbers")
    if values.size and (values.min() < 0 or values.max() > 255):
        raise BadImage(f"mask values from {values.min()} to {values.max()}, above 255")
    return Decoded(values.astype(np.uint8), None, "png", 1, rules)
