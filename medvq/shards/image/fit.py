"""Turn, crop, resize and encode decoded pixels: make the bytes that a dataset stores."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from medvq.shards.image.arrays import Pixels, npy_bytes
from medvq.shards.image.decode import Decoded
from medvq.shards.image.pillow import background_rgb

if TYPE_CHECKING:
    from medvq.config.recipe import Recipe

Background = int | tuple[int, int, int]

_PNG_LEVEL = 4
"""Level of zlib's compression: half the time of the default 6 for 1 to 4 % more bytes."""


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Return `pixels` turned and mirrored as EXIF `orientation` (1 to 8) asks for."""
    if orientation in (2, 5, 7, 4):
        pixels = pixels[:, ::-1]
    quarter_turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if orientation != 1 else pixels


def centre(pixels: Pixels, size: tuple[int, int], background: Background) -> Pixels:
    """Return the central `size` (height, width) of `pixels`, with `background` where the image is smaller."""
    for axis, want in enumerate(size):
        have = pixels.shape[axis]
        if have > want:
            start = (have - want) // 2
            pixels = pixels[start : start + want] if axis == 0 else pixels[:, start : start + want]
    height, width = pixels.shape[:2]
    if (height, width) != size:
        shape = (*size, 3) if pixels.ndim == 3 else size
        out = np.empty(shape, np.uint8)
        out[...] = background
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        out[top : top + height, left : left + width] = pixels
        pixels = out
    return np.ascontiguousarray(pixels)


def resized(pixels: Pixels, size: tuple[int, int], *, nearest: bool = False) -> Pixels:
    """Return `pixels` resized to `size` (height, width): antialiased bilinear, or the nearest pixel for masks."""
    if pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), how))


def fitted(pixels: Pixels, recipe: Recipe, *, mask: bool = False) -> tuple[Pixels, list[str]]:
    """Return `pixels` cropped and resized as the recipe says, and the rules that were applied."""
    rules: list[str] = []
    background: Background = 0 if mask else background_rgb(recipe)
    if not mask and pixels.ndim == 2:
        background = sum(background_rgb(recipe)) // 3
    if recipe.crop and pixels.shape[:2] != recipe.crop:
        pixels, rules = centre(pixels, recipe.crop, background), ["crop"]
    if recipe.size is None or pixels.shape[:2] == recipe.size:
        return pixels, rules
    height, width = pixels.shape[:2]
    if recipe.fit == "squeeze":
        return resized(pixels, recipe.size, nearest=mask), [*rules, "resize"]
    ratios = (recipe.size[0] / height, recipe.size[1] / width)
    scale = max(ratios) if recipe.fit == "crop" else min(ratios)
    near = (max(1, round(height * scale)), max(1, round(width * scale)))
    pixels = resized(pixels, near, nearest=mask)
    if near != recipe.size:
        rules.append("crop")
    return centre(pixels, recipe.size, background), [*rules, "resize"]


def with_channels(pixels: Pixels, channels: int | None) -> tuple[Pixels, list[str]]:
    """Return `pixels` with 1 or 3 channels, and the rules that were applied; None keeps the channels."""
    if channels == 1 and pixels.ndim == 3:
        from PIL import Image

        return np.asarray(Image.fromarray(pixels).convert("L")), ["luma"]
    if channels == 3 and pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2), []
    return pixels, []


def encoded(pixels: Pixels, ext: str, quality: int = 95) -> bytes:
    """Return `pixels` as the bytes of a `png`, `jpg` or `npy` file."""
    if ext == "npy":
        return npy_bytes(pixels)
    out = io.BytesIO()
    from PIL import Image

    image = Image.fromarray(pixels)
    if ext == "jpg":
        image.save(out, "JPEG", quality=quality, subsampling=0)
    else:
        image.save(out, "PNG", compress_level=_PNG_LEVEL)
    return out.getvalue()


def stored(image: Decoded, recipe: Recipe) -> tuple[bytes, str, Pixels, list[str]]:
    """Return what the dataset stores of `image`: bytes, extension, pixels, and the rules that were applied.

    The bytes are `image.kept` if no pixel changed.
    """
    rules = list(image.rules)
    pixels = image.pixels
    if image.orientation != 1:
        pixels = turned(pixels, image.orientation)
        rules.append("orientation")
    pixels, used = fitted(pixels, recipe)
    rules += used
    pixels, used = with_channels(pixels, recipe.channels)
    rules += used
    want = {"png": "png", "jpeg": "jpg", "npy": "npy"}.get(recipe.store)
    if image.kept is not None and not rules and want in (None, image.ext):
        return image.kept.data, image.ext, pixels, rules
    ext = want or "png"
    if ext == "jpg":
        rules.append("jpeg")
    elif not rules:
        rules.append("container")
    return encoded(pixels, ext, recipe.quality), ext, pixels, rules


def stored_mask(mask: Decoded, image: Decoded, recipe: Recipe) -> tuple[bytes, Pixels, list[str]]:
    """Return what the dataset stores of a mask: PNG bytes, pixels, and the rules that were applied.

    A mask that has the size of the image before its EXIF turn is turned with the image. A mask that fits only the
    turned image is stored as it is. The recipe's `masks_turned` overrides this for all masks.

    Raises:
        ValueError: the mask does not have the size of its image.
    """
    pixels, rules = mask.pixels, list(mask.rules)
    raw = image.pixels.shape[:2]
    fits = {False: pixels.shape == raw, True: pixels.shape == (raw[::-1] if image.orientation >= 5 else raw)}
    as_shown = not fits[False] if recipe.masks_turned is None else recipe.masks_turned
    if not fits[as_shown]:
        raise ValueError(f"the mask is {pixels.shape[1]}x{pixels.shape[0]}, its image {raw[1]}x{raw[0]}")
    if image.orientation != 1 and not as_shown:
        pixels = turned(pixels, image.orientation)
        rules.append("orientation")
        if fits[True] and recipe.masks_turned is None:
            rules.append("mask orientation")
    if recipe.mask_values:
        table = np.arange(256, dtype=np.uint8)
        table[list(recipe.mask_values)] = list(recipe.mask_values.values())
        pixels = table[pixels]
        rules.append("mask values")
    pixels, used = fitted(pixels, recipe, mask=True)
    rules += used
    if mask.kept is not None and not rules:
        return mask.kept.data, pixels, rules
    return encoded(pixels, "png"), pixels, rules
