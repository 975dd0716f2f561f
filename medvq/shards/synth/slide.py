"""One synthetic blood-smear image: a white cell among red cells and platelets, stained, lit and photographed.

Colour is made as a stain makes it: every structure holds concentrations of four dyes, their optical densities add,
and what is seen is the light that is left (Beer and Lambert). A patient's slide varies dyes, light and focus together,
so that a split by patient is a shift of stain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medvq.shards.synth.cells import BLUE, CLASSES, ORANGE, PINK, PURPLE, BloodCell
from medvq.shards.synth.shapes import Field, Grid, Stream, coverage, noise, optics, outline, spots, union

# What white light is left with behind one unit of each dye, (dye, RGB): purple, blue, pink, orange.
DYES = np.array([[0.36, 0.19, 0.56], [0.68, 0.76, 0.91], [0.92, 0.66, 0.68], [0.87, 0.46, 0.38]])
LAMP, WARMTH, TINT = np.array([0.94, 0.915, 0.9]), np.array([1.0, 0.1, -1.1]), np.array([0.6, -1.0, 0.4])
BACKGROUND, CYTOPLASM, NUCLEUS = 0, 128, 255
FIELD = 22.0
"""Side of the field of view at zoom 1, micrometres."""


@dataclass(frozen=True, kw_only=True)
class Slide:
    """What all images of a patient share."""

    densities: Field
    """Optical density of one unit of each dye, (4, RGB)."""
    light: Field
    """Colour and brightness of the empty slide, (RGB)."""
    focus: float
    """Blur of the microscope, micrometres."""
    red_radius: float
    red_dye: float
    pallor: float
    crowd: int
    """Red cells that are tried for in a field."""
    grain: float
    """Noise of the camera at full brightness."""


@lru_cache(maxsize=4096)
def slide_of(seed: int, patient: str) -> Slide:
    """The slide of a patient."""
    s = Stream(seed, patient, "slide")
    strength = np.exp(0.2 * s.normals(4))[:, None] * np.exp(0.13 * s.normals(12)).reshape(4, 3)
    return Slide(
        densities=-np.log(DYES) * strength * s.uniform(0.75, 1.2),
        light=s.uniform(0.86, 1.04) * LAMP * np.exp(s.normal(0, 0.045) * WARMTH + s.normal(0, 0.014) * TINT),
        focus=s.uniform(0.1, 0.3),
        red_radius=s.normal(3.7, 0.25),
        red_dye=s.normal(0.75, 0.15),
        pallor=s.uniform(0.3, 0.8),
        crowd=s.integer(5, 22),
        grain=s.uniform(0.006, 0.022),
    )


def draw(seed: int, index: int, cell: str, patient: str, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image `index` of the smear: RGB (size, size, 3), and its mask (size, size) of 0, 128 (cytoplasm), 255 (nucleus).

    A pure function of its arguments; nothing but `seed` and `index` keys what is not the patient's.
    """
    slide, s = slide_of(seed, patient), Stream(seed, index, "image")
    grid = Grid(n=size * max(2, -(-64 // size)), width=FIELD / s.uniform(0.88, 1.15))
    dyes = np.zeros((4, grid.n, grid.n))
    dyes[BLUE] = np.clip(0.02 + 0.012 * noise(s, grid, 4.0), 0.0, None)  # what washing left
    x, y = s.normal(0.0, 1.2), s.normal(0.0, 1.2)
    body = CLASSES[cell](Stream(seed, index, "cell"))
    _red_cells(dyes, s, grid, slide, (x, y, body.radius))
    _platelets(dyes, s, grid)
    inside, nucleus = _white_cell(dyes, s, grid, body, x, y)
    image = _photograph(dyes, s, grid, slide, size)
    mask = np.full((size, size), BACKGROUND, np.uint8)
    fold = grid.n // size
    mask[_halved(inside, fold)] = CYTOPLASM
    mask[_halved(nucleus, fold)] = NUCLEUS
    return image, mask


def _halved(share: Field, fold: int) -> NDArray[np.bool_]:
    """Pixels that are covered by at least one half."""
    size = share.shape[0] // fold
    return np.asarray(share.reshape(size, fold, size, fold).mean(axis=(1, 3)) >= 0.5)


def _red_cells(dyes: Field, s: Stream, grid: Grid, slide: Slide, white: tuple[float, float, float]) -> None:
    """Adds discs with a pale middle; some overlap, few reach under the white cell."""
    axis, placed = grid.axis(), [(white[0], white[1], white[2] * 0.95)]
    for _ in range(slide.crowd):
        x, y = (float(v) for v in (s.uniforms(2) - 0.5) * (grid.width + 5))
        radius, squash, angle = s.normal(slide.red_radius, 0.3), s.normal(1.0, 0.09), s.uniform(0, np.pi)
        if any((x - a) ** 2 + (y - b) ** 2 < (0.86 * (radius + r)) ** 2 for a, b, r in placed):
            continue
        placed.append((x, y, radius))
        window = grid.window(x, y, radius * 1.4)
        if window is None:
            continue
        dx, dy = axis[window[1]][None, :] - x, axis[window[0]][:, None] - y
        u, v = (dx * np.cos(angle) + dy * np.sin(angle)) * squash, (dy * np.cos(angle) - dx * np.sin(angle)) / squash
        far = np.sqrt(u * u + v * v) / radius
        hollow = 1 - s.normal(slide.pallor, 0.12) * np.exp(-((far / 0.48) ** 2))
        dyes[PINK][window] += slide.red_dye * coverage((far - 1) * radius, 0.35) * hollow
    dyes[ORANGE] += 0.1 * dyes[PINK]


def _platelets(dyes: Field, s: Stream, grid: Grid) -> None:
    """Adds none to four small grainy discs."""
    for _ in range(s.integer(-1, 4)):
        x, y = (float(v) for v in (s.uniforms(2) - 0.5) * grid.width)
        radius, count = s.uniform(0.7, 1.4), 14
        far, turn = radius * np.sqrt(s.uniforms(count)), 2 * np.pi * s.uniforms(count)
        grains = spots(grid, x + far * np.cos(turn), y + far * np.sin(turn), np.full(count, 0.5), np.full(count, 0.2))
        dyes[PURPLE] += np.minimum(grains, 0.8)


def _white_cell(dyes: Field, s: Stream, grid: Grid, body: BloodCell, x: float, y: float) -> tuple[Field, Field]:
    """Draws the cell over what is there; returns what of each subpixel the cell and its nucleus cover, (n, n)."""
    axis, spin = grid.axis(), s.uniform(0, 2 * np.pi)
    wave, fine = noise(s, grid, 3.2), noise(s, grid, 0.75)
    u, v = axis[None, :] - x + 0.16 * wave, axis[:, None] - y + 0.16 * noise(s, grid, 3.2)
    amplitudes = body.rough * s.normals(3) / (1.2, 1.6, 2.2)
    wobble = list(zip(amplitudes, 2 * np.pi * s.uniforms(3), strict=True))
    cell = outline(u, v, body.radius, wobble)
    u, v = u * np.cos(spin) + v * np.sin(spin), v * np.cos(spin) - u * np.sin(spin)
    nucleus = union(u, v, np.array(body.lobes), body.bridge, body.blend)
    inside = coverage(cell, 0.22)
    kernel = np.minimum(coverage(nucleus, 0.2), coverage(cell + 0.25, 0.25))

    own = np.array(body.cytoplasm)[:, None, None] * (1 + 0.12 * fine + 0.1 * wave)
    rim = np.exp(-((cell / 0.35) ** 2))
    own[BLUE] += 0.12 * rim
    for _ in range(body.vacuoles):
        far, turn, size = body.radius * s.uniform(0.5, 0.9), s.uniform(0, 2 * np.pi), s.uniform(0.3, 0.6)
        hole = np.exp(-(((u - far * np.cos(turn)) ** 2 + (v - far * np.sin(turn)) ** 2) / size**2))
        own *= 1 - 0.7 * hole
    dense = body.chromatin * (1 + body.clumps * fine + 0.08 * wave)
    own *= 1 - kernel
    own[PURPLE] += kernel * np.clip(dense, 0.15, None)
    for g in body.granules:
        r, angle = body.radius * 0.96 * np.sqrt(s.uniforms(g.count)), 2 * np.pi * s.uniforms(g.count)
        sizes, strengths = 0.75 + 0.5 * s.uniforms(g.count), 0.6 + 0.8 * s.uniforms(g.count)
        grains = spots(grid, x + r * np.cos(angle), y + r * np.sin(angle), g.radius * sizes, g.strength * strengths)
        own[g.dye] += np.minimum(grains, 1.6) * (1 - (1 - g.covering) * kernel)
    dyes *= 1 - inside
    dyes += inside * np.clip(own, 0.0, None)
    return inside, kernel


def _photograph(dyes: Field, s: Stream, grid: Grid, slide: Slide, size: int) -> NDArray[np.uint8]:
    """The dyes (4, n, n) as the camera sees them: light, absorption, defocus, noise, 8 bits; (size, size, 3)."""
    density = np.tensordot(dyes * s.normal(1.0, 0.08), slide.densities, axes=(0, 0))  # (n, n, RGB)
    axis = grid.axis() / grid.width
    tilt, turn, vignette = s.uniform(0.0, 0.16), s.uniform(0, 2 * np.pi), s.uniform(0.0, 0.2)
    across = axis[None, :] * np.cos(turn) + axis[:, None] * np.sin(turn)
    lamp = 1 + tilt * across - vignette * (axis[None, :] ** 2 + axis[:, None] ** 2)
    light = np.exp(-density) * lamp[..., None] * (slide.light * s.normal(1.0, 0.05))
    # One image in seven is badly out of focus.
    blur = slide.focus + (s.uniform(0.35, 0.75) if s.chance(0.15) else s.uniform(0.0, 0.2))
    seen = np.clip(optics(light, size, blur * size / grid.width), 0.0, None)
    seen += slide.grain * np.sqrt(seen) * s.normals(seen.size).reshape(seen.shape)
    return np.asarray(np.clip(np.rint(seen * 255), 0, 255).astype(np.uint8))
