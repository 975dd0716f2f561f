"""Convert arrays of numbers to 8-bit pixels: `.npy` bytes, and grey of 16 or 32 bits or float."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medvq.shards.image.bad import BadImage
from medvq.shards.image.remarks import Remarks

if TYPE_CHECKING:
    from medvq.config.recipe import Recipe

_BAND = 1 << 20
"""Number of values converted at once."""
Pixels = npt.NDArray[np.uint8]
"""(H, W) grey or (H, W, 3) RGB, 0..255."""


def check_size(width: int, height: int, recipe: Recipe) -> None:
    """Raise BadImage if an image has no pixels, or more than the recipe allows."""
    if width < 1 or height < 1:
        raise BadImage(f"its header says {width}x{height} pixels")
    if width * height > recipe.max_pixels:
        raise BadImage(f"{width}x{height} pixels are more than max_pixels {recipe.max_pixels:,}")


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """Return `array` as the bytes of an `.npy` file of version 1.0, in C order."""
    return _header(array.shape, array.dtype) + array.tobytes()


@lru_cache(maxsize=256)
def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    out = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, facts)
    return out.getvalue()


@lru_cache(maxsize=256)
def _read_header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return shape, fortran, dtype


def by_numpy(data: bytes, recipe: Recipe) -> tuple[npt.NDArray[Any], list[str]]:
    """Return the array in an `.npy` file, as pixels or as wider numbers for `to_8_bits`, and the rules applied.

    Raises:
        BadImage: the file is damaged or not an image.
    """
    wide = 2 if data[6:7] == b"\x01" else 4
    start = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
    try:
        shape, fortran, dtype = _read_header(data[:start])
    except (ValueError, EOFError) as e:
        raise BadImage(f"damaged array: {first_line(e)}") from e
    if len(shape) == 3 and shape[2] == 1:
        shape = shape[:2]
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or dtype.kind not in "buif":
        raise BadImage(f"an array of shape {shape} and type {dtype} is no image")
    check_size(shape[1], shape[0], recipe)
    if len(data) - start != dtype.itemsize * math.prod(shape):
        raise BadImage("damaged array: it has not the length that its header says")
    array = np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    if dtype == np.uint8:
        return np.ascontiguousarray(array), []
    if dtype == np.bool_:
        return array.astype(np.uint8) * 255, ["1-bit"]
    return array, []


def array_bytes_can_be_kept(data: bytes, pixels: Pixels) -> bool:
    """Return whether the `.npy` bytes `data` are exactly those that `npy_bytes` makes of `pixels`."""
    return data == npy_bytes(pixels)


def to_8_bits(
    values: npt.NDArray[Any], window: tuple[float, float] | None, remarks: Remarks | None = None
) -> tuple[Pixels, str]:
    """Return grey `values` (H, W) of 16 or 32 bits or float as 0..255, and the rule applied.

    Values that leave the window are added to `remarks`.

    Raises:
        BadImage: the values exceed the range of their type, and `window` is None.
    """
    if values.ndim != 2:
        raise BadImage(f"{values.ndim} dimensions where grey was expected")
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        raise BadImage("it holds NaN or infinite values")
    if window is not None:
        black, white = window
        scale = 255.0 / (white - black)
        if remarks is not None and (low < black or high > white):
            remarks["outside window"] = f"values from {low:g} to {high:g}"
        if remarks is not None and low < high and (min(high, white) - max(low, black)) * scale < 2.55:
            remarks["one grey"] = f"values from {low:g} to {high:g}"
        return in_bands(lambda v: np.rint(np.clip((v.astype(np.float64) - black) * scale, 0, 255)), values), "window"
    if values.dtype.kind == "f":
        if low < 0 or high > 1:
            raise BadImage(f"float values from {low:g} to {high:g}: {_window_hint(low, high)}")
        return in_bands(lambda v: np.rint(v.astype(np.float64) * 255), values), "float"
    if low < 0 or high > 65535:
        raise BadImage(f"values from {low} to {high}: {_window_hint(low, high)}")
    return in_bands(lambda v: (v.astype(np.uint32) * 255 + 32767) // 65535, values), "16-bit"


def _window_hint(low: Any, high: Any) -> str:
    """Return a hint with a window for these values, as YAML; it is wider by one if all are equal."""
    white = high if high > low else low + 1
    return f"give the recipe a window, such as `window: [{low:.10g}, {white:.10g}]`"


def in_bands(convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], values: npt.NDArray[Any]) -> Pixels:
    """Apply `convert`, which keeps height and width, to some rows at a time, to save memory for its wide numbers."""
    rows = max(1, _BAND // max(1, math.prod(values.shape[1:])))
    out: Pixels | None = None
    for top in range(0, len(values), rows):
        band = convert(values[top : top + rows])
        if out is None:
            out = np.empty((len(values), *band.shape[1:]), np.uint8)
        out[top : top + rows] = band
    assert out is not None
    return out


def first_line(e: Exception) -> str:
    """Return the first line of an error's text, without memory addresses, which differ between processes."""
    text = (str(e).splitlines() or [type(e).__name__])[0]
    return re.sub(r" ?<[^<>]* at 0x[0-9a-f]+>", "", text)[:120]
