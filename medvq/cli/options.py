"""Options that several commands have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medvq.cli.errors import note_json
from medvq.config.units import seconds
from medvq.errors import UsageError

StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="Path of a study, or its name in ./jobs or among the shipped ones.")
]
Json = Annotated[
    bool, typer.Option("--json", is_eager=True, callback=note_json, help="Print JSON to stdout, errors included.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of all runs.", envvar="MEDVQ_RUNS")]
Datasets = Annotated[
    Path, typer.Option("--datasets", metavar="DIR", help="Folder of packed datasets.", envvar="MEDVQ_DATASETS")
]
Data = Annotated[
    list[str],
    typer.Option("--data", metavar="NAME=DEST", help="Folder of the packed dataset for an entry of the study's data."),
]
Sets = Annotated[
    list[str],
    typer.Option("--set", metavar="[JOB:]PATH=V", help="Override a setting, such as finetune:train.epochs=5."),
]
Only = Annotated[
    list[str], typer.Option("--only", metavar="JOB", help="Only this job and the jobs it needs; may be repeated.")
]
Smoke = Annotated[
    bool, typer.Option("--smoke", help="Run the smallest version on synthetic images, in runs/<study>-smoke.")
]

OnCluster = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="PROFILE", help="Do it with SLURM jobs; a path, or a name in ./slurm or shipped."
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="With --profile: wait until it is done.")]
Parallel = Annotated[
    str,
    typer.Option("--parallel", metavar="N|auto", help="Number of runs at the same time; auto for as many as fit."),
]
TimeBudget = Annotated[
    str | None,
    typer.Option("--time-budget", metavar="TIME", help="Stop with a checkpoint after this time, such as '2 h'."),
]


def side_by_side(text: str) -> int | Literal["auto"]:
    """Parse the value of --parallel.

    Raises:
        UsageError: it is neither `auto` nor a positive number.
    """
    if text == "auto":
        return "auto"
    if not (text.isdecimal() and int(text)):
        raise UsageError(f"cannot read --parallel {text!r}", hint="give a number of runs, or auto")
    return int(text)


def duration(text: str | None) -> float | None:
    """Parse a duration; return seconds.

    Raises:
        UsageError: the text is not a duration.
    """
    try:
        return None if text is None else seconds(text)
    except ValueError as e:
        raise UsageError(str(e)) from e


def pairs(given: list[str]) -> dict[str, str]:
    """Parse `NAME=DEST` options; return the values by name.

    Raises:
        UsageError: an option has another form.
    """
    out = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"cannot read --data {text!r}", hint="write NAME=FOLDER")
        out[name] = value
    return out


def print_json(value: Any) -> None:
    """Print a value as JSON to stdout."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
