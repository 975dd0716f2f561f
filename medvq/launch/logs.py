"""The logs of a run, over all its attempts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvq.errors import NotFoundError
from medvq.runs.folder import RunFolder
from medvq.runs.state import status_of
from medvq.runs.submission import latest, submissions

PAUSE = 0.5


def pieces(folder: RunFolder, *, rank: int, attempt: int | None, follow: bool) -> Iterator[str]:
    """Yield the text of the logs in order, each after a heading; with `follow`, until the run is done or has failed.

    Raises:
        NotFoundError: there is no log.
    """
    read: dict[Path, int] = {}
    shown: Path | None = None
    while True:
        last = folder.result.exists() or status_of(folder).state == "failed"
        for path in _files(folder, rank, attempt):
            with open(path, "rb") as f:
                f.seek(read.get(path, 0))
                new = f.read()
            if path not in read or new:
                if path != shown:
                    shown = path
                    yield f"==> {path} <==\n"
                read[path] = read.get(path, 0) + len(new)
                yield new.decode(errors="replace")
        if not follow or last:
            break
        time.sleep(PAUSE)
    if not read:
        raise _none(folder, rank, attempt)


def as_data(folder: RunFolder, rank: int, attempt: int | None) -> list[dict[str, Any]]:
    """Return `[{file, attempt, rank, lines}]` in order; `attempt` is None for the output of the batch script.

    Raises:
        NotFoundError: there is no log.
    """
    found = [
        {
            "file": str(path),
            "attempt": int(m[1]) if (m := _NUMBER.match(path.name)) else None,
            "rank": rank,
            "lines": path.read_text(errors="replace").splitlines(),
        }
        for path in _files(folder, rank, attempt)
    ]
    if not found:
        raise _none(folder, rank, attempt)
    return found


def _none(folder: RunFolder, rank: int, attempt: int | None) -> NotFoundError:
    which = f" of attempt {attempt}" if attempt else ""
    return NotFoundError(f"no log of rank {rank}{which}", where=str(folder.logs), hint="has the run begun?")


def _files(folder: RunFolder, rank: int, attempt: int | None) -> list[Path]:
    """Return the output of the batch script, then the logs of the attempts in order."""
    numbered = [(int(m[1]), p) for p in folder.logs.glob(f"attempt-*-rank-{rank}.log") if (m := _NUMBER.match(p.name))]
    found = [p for n, p in sorted(numbered) if attempt in (None, n)]
    if attempt is None and rank == 0:
        sent = latest(submissions(folder.path.parent)).get(folder.name)
        if sent and sent[0].log(sent[1]).exists():
            found.insert(0, sent[0].log(sent[1]))
    return found


_NUMBER = re.compile(r"attempt-(\d+)-")
