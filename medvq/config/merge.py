"""Merge documents, and keep for every key the place that set it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from medvq.config.yamlfile import Document, KeyPath, parse_value
from medvq.errors import UsageError


def merged(under: Any, over: Any) -> Any:
    """Return `over` merged into `under`: mappings are merged key by key, any other value replaces the old one.

    A mapping with another `name` replaces the old one as a whole: settings of one model mean nothing to another.
    """
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    if "name" in under and over.get("name", under["name"]) != under["name"]:
        return over
    return {
        k: merged(under[k], over[k]) if k in under and k in over else over.get(k, under.get(k)) for k in under | over
    }


def overlay(under: Document, over: Document, *, source: KeyPath = (), target: KeyPath = ()) -> Document:
    """Return `under` with the part of `over` at `source` merged into its part at `target`."""
    part = get_path(over.data, source, {})
    data = set_path(under.data, target, merged(get_path(under.data, target, {}), part))
    moved = {(*target, *p[len(source) :]): place for p, place in over.places.items() if p[: len(source)] == source}
    return replace(under, data=data, places={**under.places, **moved})


def get_path(data: Any, path: KeyPath, default: Any = None) -> Any:
    """Return the value at a key path, or `default`."""
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return default
        data = data[part]
    return data


def set_path(data: Any, path: KeyPath, value: Any) -> Any:
    """Return a copy of `data` with `value` at `path`; missing mappings are created."""
    if not path:
        return value
    inner = dict(data) if isinstance(data, Mapping) else {}
    inner[str(path[0])] = set_path(inner.get(str(path[0])), path[1:], value)
    return inner


def parse_set(text: str) -> tuple[str | None, str, Any]:
    """Parse `[JOB:]PATH=VALUE` into job (None for all jobs), dotted path and value.

    Raises:
        UsageError: the text has another form.
    """
    left, equals, value = text.partition("=")
    job, colon, path = left.rpartition(":")
    if not equals or not path.strip() or (colon and not job.strip()):
        raise UsageError(
            f"cannot read --set {text!r}", hint="write [JOB:]PATH=VALUE, for example finetune:train.epochs=5"
        )
    return job.strip() or None, path.strip(), parse_value(value)
