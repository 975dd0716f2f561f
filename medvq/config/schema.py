"""Base of every configuration class: frozen, keyword-only, documented; unknown keys are errors."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medvq.config.yamlfile import Document, KeyPath
from medvq.errors import ConfigError, Problem, suggest


class Schema(BaseModel):
    """Base of frozen configuration classes; the docstring under each field documents it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def variants(cls) -> list[type[Schema]]:
        """Return the classes that may stand where this one is expected: itself, unless a name chooses among several."""
        return [cls]


S = TypeVar("S", bound=Schema)


def validate(kind: type[S], document: Document, data: Any = None, at: KeyPath = ()) -> S:
    """Read data as a `kind`.

    Args:
        kind: the configuration class.
        document: the document from which the data come.
        data: the data; by default the whole document.
        at: key path of `data` in the document, for line numbers.

    Raises:
        ConfigError: the data have mistakes; the error lists all with their lines, and for an unknown key the nearest
            known one.
    """
    try:
        return kind.model_validate(document.data if data is None else data)
    except ValidationError as e:
        raise ConfigError(problems_of(e, kind, document, at)) from e


def problems_of(error: ValidationError, kind: type[Schema], document: Document, at: KeyPath = ()) -> list[Problem]:
    """Return the problems of a pydantic error, one per key and message."""
    problems: dict[tuple[KeyPath, str], Problem] = {}
    for item in error.errors():
        path = tuple(p for p in item["loc"] if not _is_branch(p))
        hint = None
        if item["type"] == "extra_forbidden":
            name = str(path[-1])
            message, hint = f"unknown key {name!r}", suggest(name, fields_at(kind, path[:-1]))
        elif item["type"] == "missing":
            message = "this key is required"
        else:
            message = item["msg"].removeprefix("Value error, ")
            for python, yaml in YAML_WORDS.items():
                message = message.replace(python, yaml)
            shown = repr(item["input"])
            if item["type"] in LISTS and isinstance(item["input"], str | int | float):
                hint = f"write it in brackets: [{json.dumps(item['input'], ensure_ascii=False)}]"
            if item["type"] not in ("value_error", "assertion_error") and len(shown) < 60:
                message += f", not {shown}"
        key = ((*at, *path), message)
        problems.setdefault(key, Problem(where=document.where(key[0]), error=message, hint=hint))
    return list(problems.values())


YAML_WORDS = {
    "a valid tuple": "a list",
    "a valid list": "a list",
    "a valid dictionary": "a mapping",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid integer": "a whole number",
}
"""What pydantic calls Python's types, as people write them in a file."""
LISTS = ("tuple_type", "list_type")
"""Pydantic's errors for something that is not a list."""


def _is_branch(part: str | int) -> bool:
    """Return whether a part of an error's path is pydantic's name of a union's branch, not a key of the file."""
    return isinstance(part, str) and ("[" in part or part in {"int", "str", "float", "bool"} or part[:1].isupper())


def fields_at(kind: type[Schema], path: KeyPath) -> list[str]:
    """Return the keys that `kind` knows at `path`; empty if it accepts any."""
    kinds: list[Any] = [kind]
    for part in path:
        found: list[Any] = []
        for k in kinds:
            if isinstance(k, type) and issubclass(k, BaseModel) and part in k.model_fields:
                found += schemas_in(k.model_fields[str(part)].annotation)
            elif not (isinstance(k, type) and issubclass(k, BaseModel)):
                found += schemas_in(k)
        # Under a mapping or a list the part is a free name: stay with the schemas of its values.
        kinds = found or kinds
    return [name for k in kinds if isinstance(k, type) and issubclass(k, BaseModel) for name in k.model_fields]


def schemas_in(annotation: Any) -> list[type[BaseModel]]:
    """Return every schema class that appears in a type such as `dict[str, A] | B | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Schema):
        return [*annotation.variants()]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    out: list[type[BaseModel]] = []
    for arg in getattr(annotation, "__args__", ()):
        out += schemas_in(arg)
    return out
