"""Runs by the beginning of their name."""

from __future__ import annotations

from pathlib import Path

from medvq.errors import NotFoundError, UsageError, suggest
from medvq.runs.folder import RunFolder


def find_run(name: str, runs: Path) -> RunFolder:
    """The run that a name, the unique beginning of one, or a path means.

    Raises:
        NotFoundError: there is none.
        UsageError: there are several.
    """
    path = Path(name)
    if (path / "run.json").is_file():
        return RunFolder(path)
    study, slash, start = name.rpartition("/")
    there = {p.parent for p in runs.glob(f"{study if slash else '*'}/*/run.json")}
    exact = [p for p in there if p.name == start]
    found = exact or sorted(p for p in there if p.name.startswith(start))
    if not found:
        raise NotFoundError(f"no run named {name!r}", where=str(runs), hint=suggest(start, [p.name for p in there]))
    if len(found) > 1:
        few = ", ".join(str(p.relative_to(runs)) for p in found[:6])
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        raise UsageError(f"{name!r} could be {len(found)} runs: {few}{more}")
    return RunFolder(found[0])
