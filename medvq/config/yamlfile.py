"""Read YAML 1.2 with the line of every key; `1e-3` is a number and `no` is a word."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from medvq.errors import ConfigError, NotFoundError, Problem, UsageError

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A YAML file as plain Python data, and the place of each key."""

    path: str
    """Name of the file in messages."""
    text: str
    """The file's text."""
    data: dict[str, Any]
    """The mapping at the top of the file."""
    places: dict[KeyPath, str] = field(default_factory=dict)
    """`file:line` of each key path, or the command-line option that set it."""

    def where(self, path: KeyPath) -> str:
        """Return `file:line: dotted.key` of a key, with the line of its nearest parent if the file does not hold it."""
        known = path
        while known and known not in self.places:
            known = known[:-1]
        place = self.places.get(known, self.path)
        return f"{place}: {dotted(path)}" if path else place


def dotted(path: KeyPath) -> str:
    """Return a key path as text: `('jobs', 'a', 0)` gives `jobs.a[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_yaml(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file is not YAML, repeats a key, or is not a mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as e:
        raise NotFoundError("no such file", where=str(path)) from e
    except (UnicodeDecodeError, IsADirectoryError) as e:
        raise UsageError(f"not a text file: {e}", where=str(path)) from e
    return parse_yaml(text, str(path))


def parse_yaml(text: str, path: str = "<text>") -> Document:
    """Parse YAML text; `path` names it in messages. Raise ConfigError as `read_yaml` does."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        root = YAML(typ="rt", pure=True).load(StringIO(text))
    except MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError([Problem(where=f"{path}{line}", error=f"not valid YAML: {e.problem or e.context}")]) from e
    except YAMLError as e:
        raise ConfigError([Problem(where=path, error=f"not valid YAML: {e}")]) from e
    if not isinstance(root, dict):
        raise ConfigError([Problem(where=path, error="the file must hold keys and values")])
    places: dict[KeyPath, str] = {}
    return Document(path=path, text=text, data=_plain(root, (), places, path), places=places)


def parse_value(text: str) -> Any:
    """Parse a value from the command line as YAML 1.2: `1e-3`, `[1, 2]`, `{a: 1}`, `word`.

    Raises:
        UsageError: the text is not YAML.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return _plain(YAML(typ="rt", pure=True).load(StringIO(text)), (), {}, "")
    except YAMLError as e:
        raise UsageError(f"cannot read the value {text!r}: {e}") from e


def _plain(node: Any, at: KeyPath, places: dict[KeyPath, str], file: str) -> Any:
    """Return the node as dicts, lists and scalars; add the file and line of every key below `at` to `places`."""
    if isinstance(node, dict):
        out: dict[str, Any] = {}
        for key, value in node.items():
            here = (*at, str(key))
            if hasattr(node, "lc"):
                own = node.lc.data or {}  # a key that `<<: *anchor` merged in has no place of its own
                places[here] = f"{file}:{(node.lc.key(key)[0] if key in own else node.lc.line) + 1}"
            out[str(key)] = _plain(value, here, places, file)
        return out
    if isinstance(node, list):
        for i in range(len(node)):
            if hasattr(node, "lc"):
                places[(*at, i)] = f"{file}:{node.lc.item(i)[0] + 1}"
        return [_plain(value, (*at, i), places, file) for i, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return str(node)
