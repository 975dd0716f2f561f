"""Find studies, recipes and profiles: by path, else in the current folder, else among those that medvq ships."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal

from medvq.errors import NotFoundError, suggest

Kind = Literal["jobs", "shards", "slurm"]
NOUN: dict[Kind, str] = {"jobs": "study", "shards": "recipe", "slurm": "profile"}


def find(kind: Kind, name: str | Path) -> Path:
    """Return the YAML file that `name` refers to: a path, or a name.

    Raises:
        NotFoundError: there is none; the hint gives the nearest known name.
    """
    text = str(name)
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or "/" in text:
        if path.is_file():
            return path
        raise NotFoundError(f"no such {NOUN[kind]} file", where=text, hint=suggest(path.stem, known(kind)))
    for folder in _folders(kind):
        if (folder / f"{text}.yaml").is_file():
            return folder / f"{text}.yaml"
    raise NotFoundError(f"no {NOUN[kind]} named {text!r}", hint=suggest(text, known(kind)))


def known(kind: Kind) -> dict[str, Path]:
    """Return all studies, recipes or profiles by name; those in the current folder hide shipped ones of that name."""
    found: dict[str, Path] = {}
    for folder in _folders(kind):
        if folder.is_dir():
            for path in sorted(folder.glob("*.yaml")):
                found.setdefault(path.stem, path)
    return found


def _folders(kind: Kind) -> list[Path]:
    return [Path(kind), shipped(kind)]


def shipped(kind: Kind) -> Path:
    """Return the folder that medvq ships: inside the installed package, or at the top of a checkout."""
    inside = Path(str(resources.files("medvq"))) / "shipped" / kind
    return inside if inside.is_dir() else Path(str(resources.files("medvq"))).parent / kind
