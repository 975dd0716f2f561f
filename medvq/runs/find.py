"""Find a run by a prefix of its name."""

from __future__ import annotations

from pathlib import Path

from medvq.errors import NotFoundError, UsageError, suggest
from medvq.runs.folder import RunFolder


def find_run(name: str, runs: Path) -> RunFolder:
    """Return the run with this name.

    Args:
        name: path of a run folder; or name of a run, or a prefix of it that no other run has, optionally after
            `STUDY/`. A prefix that ends where a `-` follows comes first: `fit-subset10` is not `fit-subset100`.
        runs: folder of all runs.

    Raises:
        NotFoundError: there is no such run.
        UsageError: several runs have this prefix.
    """
    path = Path(name)
    if (path / "run.json").is_file():
        return RunFolder(path)
    study, slash, prefix = name.rpartition("/")
    folders = {p.parent for p in runs.glob(f"{study if slash else '*'}/*/run.json")}
    exact = [p for p in folders if p.name == prefix]
    whole = sorted(p for p in folders if p.name.startswith(f"{prefix}-"))
    found = exact or whole or sorted(p for p in folders if p.name.startswith(prefix))
    if not found:
        raise NotFoundError(f"no run named {name!r}", where=str(runs), hint=suggest(prefix, [p.name for p in folders]))
    if len(found) > 1:
        few = ", ".join(str(p.relative_to(runs)) for p in found[:6])
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        raise UsageError(f"{name!r} could be {len(found)} runs: {few}{more}", hint="give more of its name")
    return RunFolder(found[0])
