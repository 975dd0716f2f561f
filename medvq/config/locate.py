"""Where a study, recipe or profile is: a path, else one beside you, else the one that medvq ships."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal

from medvq.errors import NotFoundError, suggest

Kind = Literal["jobs", "shards", "slurm"]
NOUN: dict[Kind, str] = {"jobs": "study", "shards": "recipe", "slurm": "profile"}


def find(kind: Kind, name: str | Path) -> Path:
    """The YAML file that `name` means.

    Raises:
        NotFoundError: with the nearest known name.
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
    """Every study, recipe or profile by name; the ones beside you hide shipped ones of the same name."""
    found: dict[str, Path] = {}
    for folder in _folders(kind):
        if folder.is_dir():
            for path in sorted(folder.glob("*.yaml")):
                found.setdefault(path.stem, path)
    return found


def _folders(kind: Kind) -> list[Path]:
    return [Path(kind), shipped(kind)]


def shipped(kind: Kind) -> Path:
    """The folder that came with medvq: inside the wheel, or at the top of a checkout."""
    inside = Path(str(resources.files("medvq"))) / "shipped" / kind
    return inside if inside.is_dir() else Path(str(resources.files("medvq"))).parent / kind
