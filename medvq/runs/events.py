"""events.jsonl: the events of a run, one JSON object per line. Lines are appended and never changed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from medvq.runs.owner import Ownership


def append(path: Path, owner: Ownership, event: str, **facts: Any) -> None:
    """Append one event with the attempt and the time, and flush it to disk.

    Args:
        path: the file.
        owner: the right to write to the run.
        event: kind of the event, such as `epoch`.
        facts: more fields of the record.

    Raises:
        LostOwnershipError: another attempt owns the run.
    """
    record = {"event": event, **facts, "attempt": owner.attempt, "time": round(time.time(), 3)}
    line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    with owner.writing(), open(path, "a+b") as f:
        # A process killed while writing leaves a line without its end; begin a new line after it.
        if f.seek(0, os.SEEK_END) and (f.seek(-1, os.SEEK_END), f.read(1))[1] != b"\n":
            line = b"\n" + line
        f.write(line)
        f.flush()
        os.fsync(f.fileno())


EPOCH = b'{"event": "epoch"'
"""Beginning of the line of an epoch."""


def read(path: Path, *, glance: bool = False) -> list[dict[str, Any]]:
    """Read all events; incomplete lines are skipped.

    Args:
        path: the file.
        glance: of consecutive epochs, read the last one only. It is enough for the state of a run, and much faster.
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
    """Return the events of the epochs in order; of two events for one epoch, the later one."""
    by_epoch = {e["epoch"]: e for e in events if e["event"] == "epoch"}
    return [by_epoch[k] for k in sorted(by_epoch)]
