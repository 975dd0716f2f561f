"""Options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medvq.cli.errors import note_json
from medvq.config.units import seconds
from medvq.errors import UsageError

StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="Path of a study, or its name in ./jobs or among those shipped.")
]
Json = Annotated[
    bool, typer.Option("--json", is_eager=True, callback=note_json, help="Print JSON to stdout, errors included.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of all runs.", envvar="MEDVQ_RUNS")]
Datasets = Annotated[
    Path, typer.Option("--datasets", metavar="DIR", help="Folder of packed datasets.", envvar="MEDVQ_DATASETS")
]
Data = Annotated[
    list[str], typer.Option("--data", metavar="NAME=DEST", help="Packed dataset for an entry of the study's data.")
]
Sets = Annotated[
    list[str],
    typer.Option("--set", metavar="[JOB:]PATH=V", help="Lay a value over jobs, e.g. finetune:train.epochs=5."),
]
Only = Annotated[
    list[str], typer.Option("--only", metavar="JOB", help="Only this job and what it needs; may be repeated.")
]
Smoke = Annotated[
    bool, typer.Option("--smoke", help="The smallest version, on synthetic images, in runs/<study>-smoke.")
]

Parallel = Annotated[
    str,
    typer.Option("--parallel", metavar="N|auto", help="Runs side by side; auto: as many as have room."),
]
TimeBudget = Annotated[
    str | None, typer.Option("--time-budget", metavar="TIME", help="Stop with a checkpoint after, say, '2 h'.")
]


def side_by_side(text: str) -> int | Literal["auto"]:
    """The value of --parallel.

    Raises:
        UsageError: it is neither `auto` nor a number above zero.
    """
    if text == "auto":
        return "auto"
    if not (text.isdecimal() and int(text)):
        raise UsageError(f"cannot read --parallel {text!r}", hint="give a number of runs, or auto")
    return int(text)


def duration(text: str | None) -> float | None:
    """A duration in seconds.

    Raises:
        UsageError: it is none.
    """
    try:
        return None if text is None else seconds(text)
    except ValueError as e:
        raise UsageError(str(e)) from e


def pairs(given: list[str]) -> dict[str, str]:
    """`NAME=DEST` options as a mapping.

    Raises:
        UsageError: one has another form.
    """
    out = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"cannot read --data {text!r}", hint="write NAME=FOLDER")
        out[name] = value
    return out


def print_json(value: Any) -> None:
    """Data for programs."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
