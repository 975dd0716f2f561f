"""Errors on the way out: one clear message, JSON where JSON was asked for, and the exit code of the kind."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from medvq.errors import ConfigError, MedvqError


class Commands(TyperGroup):
    """The group of all commands; turns errors into messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except MedvqError as e:
            if ctx.params.get("debug"):
                raise
            tell(e)
            raise typer.Exit(e.code) from e
        except KeyboardInterrupt as e:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from e
        except BrokenPipeError as e:
            sys.stderr.close()
            raise typer.Exit(1) from e
        except OSError as e:
            if ctx.params.get("debug"):
                raise
            tell(MedvqError(e.strerror or str(e), where=e.filename))
            raise typer.Exit(1) from e


def tell(error: MedvqError) -> None:
    """Print an error: to stderr, and as JSON to stdout where `--json` was given."""
    if "--json" in sys.argv:
        record: dict[str, Any] = {"error": error.error, "where": error.where, "hint": error.hint, "code": error.code}
        if isinstance(error, ConfigError):
            record["problems"] = [{"error": p.error, "where": p.where, "hint": p.hint} for p in error.problems]
        typer.echo(json.dumps(record))
    for line in str(error).splitlines():
        typer.echo(f"medvq: {line}" if not line.startswith(" ") else line, err=True)
