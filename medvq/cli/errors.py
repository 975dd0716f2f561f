"""Errors for the user: one clear message, JSON if `--json` was given, and the exit code of the error's class."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from medvq.errors import ConfigError, MedvqError

WANTS_JSON = "medvq.json"
"""Key in a context's `meta`, which the contexts of a group and its command share: whether `--json` was given."""


def note_json(ctx: typer.Context, value: bool) -> bool:
    """Remember in the context whether `--json` was given; the callback of this option."""
    ctx.meta[WANTS_JSON] = value
    return value


class Commands(TyperGroup):
    """The group of all commands. It turns errors into messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except MedvqError as e:
            if ctx.params.get("debug"):
                raise
            tell(e, as_json=ctx.meta.get(WANTS_JSON, False))
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
            hint = permission_hint(e) if isinstance(e, PermissionError) else None
            tell(MedvqError(e.strerror or str(e), where=e.filename, hint=hint), as_json=ctx.meta.get(WANTS_JSON, False))
            raise typer.Exit(1) from e


def permission_hint(error: PermissionError) -> str | None:
    """Return what to do about a file or folder of another user; None if the error names none that exists."""
    path = Path(os.fsdecode(error.filename)) if error.filename else None
    for there in (path, *path.parents) if path else ():
        with contextlib.suppress(OSError):
            owner = there.stat().st_uid
            if owner != os.getuid():
                return f"{there} belongs to {user_name(owner)}, who can open it to the group: chmod -R g+rwX {there}"
            return f"{there} is yours: chmod -R u+rwX {there}"
    return None


def user_name(uid: int) -> str:
    """Return the name of a user; the number if there is no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def tell(error: MedvqError, *, as_json: bool) -> None:
    """Print an error to stderr and, with `as_json`, also as a JSON object to stdout."""
    if as_json:
        record: dict[str, Any] = {"error": error.error, "where": error.where, "hint": error.hint, "code": error.code}
        if isinstance(error, ConfigError):
            record["problems"] = [{"error": p.error, "where": p.where, "hint": p.hint} for p in error.problems]
        typer.echo(json.dumps(record))
    for line in str(error).splitlines():
        typer.echo(f"medvq: {line}" if not line.startswith(" ") else line, err=True)
