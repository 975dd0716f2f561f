"""Explain why the names in a table are not those of the images, and how a recipe makes them match."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medvq.shards.source.patterns import nfc, stem
from medvq.shards.source.tables import Rows, quoted


def why_no_names(file: str, header: Sequence[str], rows: Rows, images: Sequence[str], count: int) -> str:
    """Return why a table names too few images, and what to write into a recipe if it can be mended there.

    Args:
        file: path of the table.
        header: its columns.
        rows: its rows.
        images: paths of the images.
        count: number of the images.
    """
    names = {name for p in images for name in (p, p.rsplit("/", 1)[-1], stem(p))}
    stems = {stem(p) for p in images}
    folded = {name.casefold() for name in names}
    best: tuple[int, int, str] = (0, 0, "no column holds names of images")
    for column in header:
        values = {v for _, row in rows if (v := nfc(row.get(column, "")))}
        exact = len(values & names)
        plain = {v.replace("\\", "/") for v in values}
        last = {v.rsplit("/", 1)[-1] for v in plain}
        numbers = _padded(values, stems)
        example = min(values, default="")
        others = [c for c in header if c != column]
        label = others[0] if len(others) == 1 else "COLUMN_OF_LABELS"
        label = next((c for c in others if c.strip().lower() in ("label", "class", "diagnosis", "dx", "target")), label)
        line = f"file: {quoted(file)}, id: {quoted(column)}, label: {quoted(label)}"
        by_path, by_stem = len(last & names), len({stem(v) for v in last} & stems)
        reasons = [
            (exact, f"it names {exact} of {count} images ({column}), too few: name it in a recipe"),
            (
                by_path if any("\\" in v for v in values) and by_path > exact else 0,
                f"its names ({column}) are paths of another computer, such as {example}: "
                f"say in a recipe `tables: [{{{line}, match: path}}]`",
            ),
            (
                len({v.rsplit("/", 1)[-1].casefold() for v in plain} & folded),
                f"its names ({column}) differ from those of images in case or folders: spell them alike",
            ),
            (
                by_stem if by_stem > by_path else 0,
                f"its names ({column}) have another suffix than the images, such as {example}: "
                f"say in a recipe `tables: [{{{line}, match: stem}}]`",
            ),
            (
                numbers[0],
                f"its names ({column}) are numbers without the zeros of the images, such as {example}: "
                f'say in a recipe `tables: [{{{line}, format: "{{:0{numbers[1]}d}}"}}]`',
            ),
        ]
        for rank, (known, reason) in enumerate(reasons):
            if known and (known, -rank) > (best[0], best[1]):
                best = (known, -rank, reason)
    return best[2]


def _padded(values: set[str], stems: set[str]) -> tuple[int, int]:
    """Return how many values are numbers of images if zeros are added in front, and the width of these numbers."""
    widths = {len(s) for s in stems if s.isdecimal()}
    if len(widths) != 1:
        return 0, 0
    width = widths.pop()
    found = {v.zfill(width) for v in values if re.fullmatch(r"\d+", v)} & stems
    return (len(found), width) if found - values else (0, 0)
