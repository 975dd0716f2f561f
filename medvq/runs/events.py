"""events.jsonl: what happened to a run, one JSON object a line, appended and never changed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from medvq.runs.owner import Ownership


def append(path: Path, owner: Ownership, event: str, **facts: Any) -> None:
    """Add one event with the attempt and the time; the line is on disk when this returns.

    Raises:
        LostOwnershipError: another attempt owns the run.
    """
    record = {"event": event, **facts, "attempt": owner.attempt, "time": round(time.time(), 3)}
    line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    with owner.writing(), open(path, "a+b") as f:
        # A line that a kill has torn must not swallow this one.
        if f.seek(0, os.SEEK_END) and (f.seek(-1, os.SEEK_END), f.read(1))[1] != b"\n":
            line = b"\n" + line
        f.write(line)
        f.flush()
        os.fsync(f.fileno())


EPOCH = b'{"event": "epoch"'


def read(path: Path, *, glance: bool = False) -> list[dict[str, Any]]:
    """Every whole event; torn lines are left out.

    With `glance`, an epoch that another one follows at once is left out as well: enough to tell how a run stands, and
    many times faster.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    events = []
    for line, following in zip(lines, [*lines[1:], b""], strict=True):
        if glance and line.startswith(EPOCH) and following.startswith(EPOCH):
            continue
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "event" in record:
            events.append(record)
    return events


def epochs(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The epochs in order; of two lines for one epoch the later counts."""
    by_epoch = {e["epoch"]: e for e in events if e["event"] == "epoch"}
    return [by_epoch[k] for k in sorted(by_epoch)]
