"""The five classes of white cells in a smear: how they differ, and how far they overlap.

Sizes are those of haematology textbooks, in micrometres. The classes overlap where they do under a microscope: large
lymphocytes and small monocytes, pale eosinophils and neutrophils of two lobes, band forms, basophils without grains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from medvq.shards.synth.shapes import Stream

PURPLE, BLUE, PINK, ORANGE = range(4)
"""The dyes, as rows of `smear.DYES`."""


@dataclass(frozen=True, kw_only=True)
class Granules:
    """Grains in the cytoplasm. They also cover the nucleus, with the share `covering` of their strength."""

    count: int
    radius: float
    dye: int
    strength: float
    covering: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BloodCell:
    """A white cell before it is placed: everything that depends on its class."""

    radius: float
    lobes: list[tuple[float, float, float]]
    """Discs of the nucleus: x, y, radius."""
    cytoplasm: tuple[float, float, float, float]
    """Concentration of each dye."""
    bridge: float = 0.0
    """Half width of the bridge from one lobe to the next; 0 if they only touch."""
    blend: float = 0.35
    rough: float = 0.06
    """How far the outline deviates from a circle, as a share of the radius."""
    chromatin: float = 1.0
    """Concentration of the purple dye in the nucleus."""
    clumps: float = 0.15
    vacuoles: int = 0
    granules: list[Granules] = field(default_factory=list)


def lymphocyte(s: Stream) -> BloodCell:
    """A round dense nucleus in a thin blue rim; one in four is large, paler and off centre, near a monocyte."""
    large = s.chance(0.27)
    radius = s.normal(6.0, 0.6) if large else s.normal(4.4, 0.45)
    inner = radius * (s.uniform(0.62, 0.8) if large else s.uniform(0.78, 0.93))
    away = (radius - inner) * s.uniform(0.2, 1.0)
    lobes = [(away, 0.0, inner)]
    if s.chance(0.5 if large else 0.2):  # an indented nucleus: two discs that nearly coincide
        gap = inner * s.uniform(0.25, 0.45)
        lobes = [(away, gap, inner * 0.87), (away - 0.1, -gap, inner * 0.83)]
    grains = [Granules(count=s.integer(4, 14), radius=0.28, dye=PURPLE, strength=0.5)] if large else []
    return BloodCell(
        radius=radius, lobes=lobes, cytoplasm=(0.04, s.uniform(0.45, 1.1), s.uniform(0.0, 0.15), 0.0), blend=0.4,
        rough=0.06 if large else 0.035, chromatin=s.normal(0.95 if large else 1.15, 0.14), clumps=s.uniform(0.08, 0.2),
        granules=grains,
    )  # fmt: skip


def monocyte(s: Stream) -> BloodCell:
    """A kidney or horseshoe in wide grey-blue cytoplasm with vacuoles; one in four is small with a round nucleus."""
    small = s.chance(0.25)
    radius = s.normal(5.9, 0.5) if small else s.normal(7.3, 0.7)
    bend, thick = (s.uniform(0.6, 1.2), s.uniform(0.42, 0.5)) if small else (s.uniform(1.0, 2.4), s.uniform(0.3, 0.42))
    arc = radius * s.uniform(0.26, 0.42)
    at = np.linspace(-bend, bend, 6)
    lobes = [
        (arc * np.cos(a) - arc * 0.4 + s.uniform(-0.2, 0.2), arc * np.sin(a), radius * thick * s.uniform(0.88, 1.08))
        for a in at
    ]
    grains = [Granules(count=s.integer(20, 70), radius=0.22, dye=PINK, strength=s.uniform(0.1, 0.5))]
    return BloodCell(
        radius=radius, lobes=lobes, cytoplasm=(0.07, s.uniform(0.55, 1.1), s.uniform(0.1, 0.4), 0.0), blend=0.5,
        rough=0.09, chromatin=s.normal(0.85, 0.14), clumps=s.uniform(0.14, 0.3),
        vacuoles=0 if small else s.integer(0, 7), granules=grains,
    )  # fmt: skip


def _chain(s: Stream, count: int, ring: float, size: float) -> list[tuple[float, float, float]]:
    """Return `count` lobes along a bent chain around the centre of the cell."""
    step = min(s.uniform(1.05, 1.5), 4.4 / (count - 1))  # so that the ends do not meet
    turn = [(i - (count - 1) / 2) * step + s.uniform(-0.22, 0.22) for i in range(count)]
    reach = [ring * s.uniform(0.8, 1.15) for _ in range(count)]
    back = ring * (0.45 if count > 2 else 0.1)
    return [
        (r * np.cos(t) - back, r * np.sin(t), size * s.uniform(0.8, 1.15)) for r, t in zip(reach, turn, strict=True)
    ]


def neutrophil(s: Stream) -> BloodCell:
    """Three to five lobes on threads in pale pink; some have two, some are bands, some are heavily granulated."""
    radius = s.normal(6.1, 0.5)
    kind = s.uniform(0, 1)
    if kind < 0.09:  # a band: one bent rod
        bend, arc = s.uniform(1.2, 2.0), radius * s.uniform(0.42, 0.52)
        lobes = [
            (arc * np.cos(a) - arc * 0.3, arc * np.sin(a), radius * s.uniform(0.19, 0.27))
            for a in np.linspace(-bend, bend, 6)
        ]
        bridge = radius * 0.2
    else:
        count = 2 if kind < 0.2 else s.integer(3, 5)
        lobes = _chain(s, count, radius * s.uniform(0.4, 0.52), radius * (0.44 - 0.034 * count))
        bridge = radius * s.uniform(0.05, 0.11)
    toxic = s.chance(0.1)
    grains = [
        Granules(count=s.integer(60, 160), radius=0.26, dye=PINK, strength=s.uniform(0.25, 0.7)),
        Granules(count=s.integer(20, 90), radius=0.3 if toxic else 0.22, dye=ORANGE, strength=0.5 if toxic else 0.16),
    ]
    return BloodCell(
        radius=radius, lobes=lobes, bridge=bridge, blend=0.22,
        chromatin=s.normal(1.1, 0.13), clumps=s.uniform(0.1, 0.2),
        cytoplasm=(0.03, s.uniform(0.02, 0.3), s.uniform(0.2, 0.55), s.uniform(0.0, 0.08)), granules=grains,
    )  # fmt: skip


def eosinophil(s: Stream) -> BloodCell:
    """Two lobes among large orange grains; one in five is pale, with grains little stronger than a neutrophil's."""
    radius = s.normal(6.2, 0.5)
    pale = s.chance(0.22)
    count = 3 if s.chance(0.16) else 2
    lobes = _chain(s, count, radius * s.uniform(0.42, 0.52), radius * (0.4 if count == 2 else 0.32))
    grains = [
        Granules(
            count=s.integer(90, 190), radius=s.uniform(0.36, 0.5), dye=ORANGE,
            strength=s.uniform(0.14, 0.3) if pale else s.uniform(0.35, 0.8), covering=0.2,
        )
    ]  # fmt: skip
    return BloodCell(
        radius=radius, lobes=lobes, bridge=radius * s.uniform(0.05, 0.16), blend=0.3, chromatin=s.normal(1.0, 0.13),
        clumps=s.uniform(0.1, 0.2), granules=grains,
        cytoplasm=(0.02, s.uniform(0.0, 0.25), s.uniform(0.2, 0.5), 0.05 if pale else s.uniform(0.08, 0.3)),
    )  # fmt: skip


def basophil(s: Stream) -> BloodCell:
    """A dim bilobed nucleus under coarse dark grains; some have lost most of them."""
    radius = s.normal(5.7, 0.45)
    lost = s.chance(0.2)
    lobes = _chain(s, s.integer(2, 3), radius * s.uniform(0.3, 0.45), radius * s.uniform(0.33, 0.42))
    grains = [
        Granules(
            count=s.integer(8, 25) if lost else s.integer(40, 110), radius=s.uniform(0.4, 0.6), dye=PURPLE,
            strength=s.uniform(0.5, 1.0), covering=0.6,
        )
    ]  # fmt: skip
    return BloodCell(
        radius=radius, lobes=lobes, bridge=radius * 0.14, blend=0.5, chromatin=s.normal(0.75, 0.12), clumps=0.12,
        cytoplasm=(0.12, s.uniform(0.15, 0.5), s.uniform(0.2, 0.45), 0.0), granules=grains,
    )  # fmt: skip


CLASSES: dict[str, Callable[[Stream], BloodCell]] = {
    "basophil": basophil,
    "eosinophil": eosinophil,
    "lymphocyte": lymphocyte,
    "monocyte": monocyte,
    "neutrophil": neutrophil,
}
