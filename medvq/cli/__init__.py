"""The command line. Importing it imports neither torch nor ray: each command imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

import medvq
from medvq.cli.errors import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # Rich would take half of the time that the help takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"medvq {medvq.__version__}")
        raise typer.Exit


@app.callback()
def _medvq(
    debug: Annotated[bool, typer.Option("--debug", help="Show Python tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From folders of medical images to the paper's table.

    \b
    medvq synth smear data/smear            draw a synthetic blood smear
    medvq shard data/smear datasets/smear   pack a folder of images
    medvq run quickstart                    train, evaluate, print the tables
    """  # noqa: D301 - Click reads the escape as "keep these lines"


from medvq.cli import datasets, managing, studies, submitting, watching  # noqa: E402

datasets.register(app)
studies.register(app)
submitting.register(app)
watching.register(app)
managing.register(app)


def main() -> None:
    """Run the command line; the entry point of `medvq`."""
    app()
