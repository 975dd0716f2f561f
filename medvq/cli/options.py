"""Options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from medvq.config.errors import UsageError

StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="Path of a study, or its name in ./jobs or among those shipped.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
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
