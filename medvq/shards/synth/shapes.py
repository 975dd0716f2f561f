"""Tools to draw a synthetic smear: keyed draws, noise fields, distance fields, spots, and optics.

Everything is float64. The last bit of a sine differs between processors, but 8-bit pixels made of float64 do not.
Lengths are in micrometres, angles in radians. A field has one value per subpixel, shape (n, n).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medvq.keys import draw_key

Field = NDArray[np.float64]


class Stream:
    """A stream of draws for one purpose, keyed by `draw_key`. Philox bits are the same in every version of numpy."""

    def __init__(self, *purpose: int | str) -> None:
        self._bits = np.random.Philox(key=draw_key(*purpose))

    def uniforms(self, n: int) -> Field:
        """Return `n` draws from [0, 1)."""
        return (self._bits.random_raw(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normals(self, n: int) -> Field:
        """Return `n` standard normal draws, by the method of Box and Muller."""
        half = (n + 1) // 2
        u = self.uniforms(2 * half)
        radius, angle = np.sqrt(-2.0 * np.log(1.0 - u[:half])), 2.0 * np.pi * u[half:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]

    def uniform(self, low: float, high: float) -> float:
        """Return one draw from [low, high)."""
        return low + (high - low) * float(self.uniforms(1)[0])

    def normal(self, mean: float, std: float, spread: float = 2.0) -> float:
        """Return one normal draw, clipped to `spread` standard deviations."""
        return mean + std * min(max(float(self.normals(1)[0]), -spread), spread)

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return float(self.uniforms(1)[0]) < probability

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from low to high, both included."""
        return low + int(self.uniforms(1)[0] * (high - low + 1))


@dataclass(frozen=True)
class Grid:
    """The square field of view: `n` subpixels over `width` micrometres, with the origin in the centre."""

    n: int
    width: float

    @property
    def step(self) -> float:
        """The side of a subpixel."""
        return self.width / self.n

    def axis(self) -> Field:
        """Return the positions of the subpixel centres along one side, (n,)."""
        return np.asarray((np.arange(self.n) + 0.5) * self.step - self.width / 2)

    def window(self, x: float, y: float, radius: float) -> tuple[slice, slice] | None:
        """Return the rows and columns that contain a disc; None if it is outside the field."""
        spans = []
        for middle in (y, x):
            first = int(np.floor((middle - radius + self.width / 2) / self.step))
            last = int(np.ceil((middle + radius + self.width / 2) / self.step))
            spans.append(slice(max(first, 0), min(last, self.n)))
        return None if any(s.start >= s.stop for s in spans) else (spans[0], spans[1])


def noise(stream: Stream, grid: Grid, scale: float) -> Field:
    """Return smooth noise of about unit variance with bumps about `scale` wide: a cubic B-spline on random knots."""
    knots = max(round(grid.width / scale), 1)
    values = stream.normals((knots + 3) ** 2).reshape(knots + 3, knots + 3)
    weights = _spline(grid.n, knots)
    # A cubic B-spline averages its knots; 2.09 brings the variance back to about one.
    return np.asarray(2.09 * (weights @ values @ weights.T))


@lru_cache(maxsize=64)
def _spline(n: int, knots: int) -> Field:
    """Return the weights (n, knots + 3) of a uniform cubic B-spline at `n` points over `knots` intervals."""
    at = (np.arange(n) + 0.5) / n * knots
    cell = np.minimum(at.astype(np.int64), knots - 1)
    t = at - cell
    parts = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    weights = np.zeros((n, knots + 3))
    for k, part in enumerate(parts):
        weights[np.arange(n), cell + k] = part / 6
    return weights


def coverage(distance: Field, softness: float) -> Field:
    """Return 1 inside (distance < 0) and 0 outside, with a smooth step between them, about twice `softness` wide."""
    t = np.clip(0.5 - distance / (2 * softness), 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t))


def outline(x: Field, y: Field, radius: float, wobble: Sequence[tuple[float, float]]) -> Field:
    """Return the distance to a nearly round outline, whose radius varies by harmonics 2, 3, ... (amplitude, phase)."""
    length = np.sqrt(x * x + y * y) + 1e-9
    turn = (x + 1j * y) / length
    edge, power = np.ones_like(length), turn
    for amplitude, phase in wobble:
        power = power * turn
        edge = edge + amplitude * (power.real * np.cos(phase) - power.imag * np.sin(phase))
    return np.asarray(length - radius * edge)


def union(x: Field, y: Field, lobes: Field, bridge: float, blend: float) -> Field:
    """Return the distance to discs `lobes` (L, 3: x, y, radius) in a chain, joined by bridges of half width `bridge`.

    Joints are rounded over about `blend`.
    """
    parts = [np.sqrt((x - cx) ** 2 + (y - cy) ** 2) - r for cx, cy, r in lobes]
    if bridge > 0:
        for (ax, ay, _), (bx, by, _) in pairwise(lobes):
            dx, dy = bx - ax, by - ay
            t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9), 0.0, 1.0)
            parts.append(np.sqrt((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2) - bridge)
    nearest = np.minimum.reduce(parts)
    return np.asarray(nearest - blend * np.log(sum(np.exp((nearest - p) / blend) for p in parts)))


def spots(grid: Grid, x: Field, y: Field, radius: Field, strength: Field) -> Field:
    """Return the sum of soft round spots, each `strength` at its centre; the last four arguments are (spots,)."""
    field = np.zeros((grid.n, grid.n))
    if len(x) == 0:
        return field
    reach = int(np.ceil(2.0 * float(radius.max()) / grid.step))
    offsets = np.arange(-reach, reach + 1)
    col = np.floor((x + grid.width / 2) / grid.step).astype(np.int64)[:, None] + offsets  # (spots, k)
    row = np.floor((y + grid.width / 2) / grid.step).astype(np.int64)[:, None] + offsets
    dx = (col + 0.5) * grid.step - grid.width / 2 - x[:, None]
    dy = (row + 0.5) * grid.step - grid.width / 2 - y[:, None]
    fall = 1.2 / radius[:, None] ** 2
    bumps = np.exp(-fall * dy**2)[:, :, None] * np.exp(-fall * dx**2)[:, None, :] * strength[:, None, None]
    inside = ((row >= 0) & (row < grid.n))[:, :, None] & ((col >= 0) & (col < grid.n))[:, None, :]
    flat = (row[:, :, None] * grid.n + col[:, None, :])[inside]
    np.add.at(field.reshape(-1), flat, bumps[inside])
    return field


def optics(image: Field, size: int, sigma: float) -> Field:
    """Return (n, n, C) blurred by a Gaussian of `sigma` pixels and reduced to (size, size, C)."""
    n = image.shape[0]
    centre, sub = (np.arange(size) + 0.5) * (n / size), np.arange(n) + 0.5
    # The Gaussian also contains the variance of a pixel's own box, 1/12.
    spread = np.sqrt(sigma**2 + 1 / 12) * (n / size)
    weights = np.exp(-0.5 * ((sub[None, :] - centre[:, None]) / spread) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    # Contiguous planes: numpy multiplies strided matrices about thirty times slower.
    planes = np.ascontiguousarray(np.moveaxis(image, -1, 0))
    return np.ascontiguousarray(np.moveaxis(weights @ planes @ weights.T, 0, -1))
