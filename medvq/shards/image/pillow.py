"""Decode an image file with Pillow, and convert its mode to grey or RGB by stated rules."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medvq.shards.image.arrays import Pixels, check_size, first_line, in_bands
from medvq.shards.image.bad import BadImage
from medvq.shards.image.remarks import Remarks
from medvq.shards.image.tiff import tiff_pixels

if TYPE_CHECKING:
    from PIL import Image

    from medvq.config.recipe import Recipe

FORMATS = {"jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "tiff": "TIFF", "webp": "WEBP", "gif": "GIF", "pnm": "PPM"}
"""Names by which Pillow knows the kinds of `medvq.shards.image.sniff`."""
_ORIENTATION = 0x0112
"""EXIF tag of the orientation."""


def decode(data: bytes, kind: str, recipe: Recipe, remarks: Remarks) -> tuple[NDArray[Any], list[str]]:
    """Return 8-bit pixels, or wider numbers for `arrays.to_8_bits`, and the rules that were applied.

    What a person should know is added to `remarks`.

    Raises:
        BadImage: the file is damaged or has too many pixels.
    """
    image, frames = load(data, kind, recipe)
    rules = ["first frame"] if frames > 1 else []
    remarks |= {"pages": f"{frames} pages"} if frames > 1 else {}
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
        return without_equal_channels(np.array(image.convert("RGB"))), [*rules, "palette"]
    if mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        if np.asarray(image.getchannel("A" if image.mode in ("RGBA", "LA", "PA") else image.mode[-1])).min() < 255:
            remarks["transparent"] = ""
        return _over_background(image, recipe), [*rules, "alpha"]
    if mode == "CMYK":
        return np.array(image.convert("RGB")), [*rules, "cmyk"]
    if mode in ("YCbCr", "LAB", "HSV"):
        return np.array(image.convert("RGB")), [*rules, "colour space"]
    return np.asarray(image), rules


def load(data: bytes, kind: str, recipe: Recipe) -> tuple[Image.Image, int]:
    """Return the first frame of an image file and the number of frames.

    Pillow counts frames by reading the next one, and damage in it is damage of the file.

    Raises:
        BadImage: the file is damaged or has too many pixels.
    """
    image = _opened(data, kind)
    check_size(*image.size, recipe)
    try:
        image.load()
        frames = int(getattr(image, "n_frames", 1))
    except MemoryError as e:
        raise BadImage("it does not fit into memory") from e
    except Exception as e:  # every decoder raises errors of its own, and all mean that the file is damaged
        raise BadImage(f"damaged {kind.upper()}: {first_line(e)}") from e
    return image, frames


def _opened(data: bytes, kind: str) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data), formats=[FORMATS[kind]])
    except Image.DecompressionBombError as e:
        raise BadImage("it has too many pixels") from e
    except UnidentifiedImageError as e:
        if kind == "tiff" and (pixels := tiff_pixels(data)):
            raise BadImage(
                f"a TIFF with pixels of {pixels.words}, which medvq does not read: save it with 8 or 16 bits, or as "
                "32-bit float"
            ) from e
        raise BadImage(f"damaged {kind.upper()}: {first_line(e)}") from e
    except Exception as e:  # as in `load`
        raise BadImage(f"damaged {kind.upper()}: {first_line(e)}") from e


def exif_orientation(exif: bytes | None) -> int:
    """Return the orientation (1 to 8) in an EXIF block; 1 if there is none or its value makes no sense."""
    if exif is None:
        return 1
    from PIL import Image

    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(_ORIENTATION, 1)
    except Exception:  # many programs write broken EXIF, and only this number matters here
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def orientation(data: bytes, kind: str) -> int:
    """Return the orientation of a file that is neither JPEG nor PNG and that `decode` did not apply."""
    if kind != "webp":  # Pillow applies the orientation of TIFF; the other formats have none
        return 1
    with _opened(data, kind) as image:
        value = image.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def without_equal_channels(pixels: Pixels) -> Pixels:
    """Return (H, W) if the three channels of (H, W, 3) are equal, else `pixels`."""
    equal = (pixels[..., :1] == pixels[..., 1:]).all()
    return np.ascontiguousarray(pixels[..., 0]) if equal else pixels


def background_rgb(recipe: Recipe) -> tuple[int, int, int]:
    """Return the recipe's background as red, green, blue."""
    b = recipe.background
    return (b, b, b) if isinstance(b, int) else b


def _over_background(image: Image.Image, recipe: Recipe) -> Pixels:
    """Return the pixels of an image with transparency, laid over the recipe's background."""
    rgb = background_rgb(recipe)
    grey = image.mode in ("LA", "La") and len(set(rgb)) == 1
    ground = np.array(rgb[0] if grey else rgb, np.uint32)
    mode = "LA" if grey else "RGBA"

    def over(both: NDArray[np.uint8]) -> NDArray[np.uint32]:
        wide = both.astype(np.uint32)
        colour, alpha = (wide[..., 0], wide[..., 1]) if grey else (wide[..., :3], wide[..., 3:])
        return (colour * alpha + ground * (255 - alpha) + 127) // 255

    return in_bands(over, np.asarray(image if image.mode == mode else image.convert(mode)))
