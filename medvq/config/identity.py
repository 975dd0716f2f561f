"""The identity of a run: 12 hex digits over everything that its numbers depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medvq.config.data import Source
from medvq.config.expand import Point
from medvq.config.schema import Schema
from medvq.config.task_info import find_task
from medvq.keys import canonical_json, sha256_of


def science(point: Point, source: Source, digests: Mapping[str, str], needs: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that a run's numbers depend on, as JSON data.

    Args:
        point: what the run does.
        source: the entry of `data` that it reads.
        digests: digest in hex of each dataset by name; those of a mixture are named `name.part`.
        needs: identity in hex of the run in each role.

    Resources, paths, and names of studies, jobs and datasets are not part of it.
    """
    job = point.config
    own = {"code": {name: ref.sha256 for name, ref in point.code.items()}} if point.code else {}
    mistakes = {"as_published": sorted(job.as_published)} if job.as_published else {}
    metrics = {"metrics": sorted(job.metrics)} if job.metrics else {}
    return {
        **own,
        **mistakes,
        **metrics,
        "task": {"name": job.task, "revision": find_task(job.task).revision, **plain(point.objective)},
        "model": {"revision": point.model.revision, **plain(point.model)},
        "data": {
            **plain(source, without={"dataset", "synth", "mix"}),
            **({"mix": mixture(job.data.use, source, digests)} if source.mix else {}),
            **plain(job.data, without={"use"}),
            "digests": sorted(digests.values()),
        },
        "train": plain(job.train),
        "needs": {role: {"run": needs[role], "checkpoint": need.checkpoint} for role, need in job.needs.items()},
    }


def mixture(name: str, source: Source, digests: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the datasets of the mixture `name` as JSON data, without names and in an order that depends on content."""
    parts = [
        {"digest": digests.get(part), **plain(origin, without={"dataset", "synth"})}
        for part, origin in source.origins(name).items()
    ]
    return sorted(parts, key=canonical_json)


def identity(facts: Mapping[str, Any]) -> str:
    """Return 12 hex digits over the canonical JSON of `science`."""
    return sha256_of(facts)[:12]


def plain(schema: Schema, without: set[str] | None = None) -> dict[str, Any]:
    """Return a schema as JSON data, without fields that are marked neutral and have their default.

    A field that is added to a schema later is marked with `json_schema_extra={"neutral": True}`, which leaves the
    identities of older runs unchanged.
    """
    data: dict[str, Any] = schema.model_dump(mode="json", exclude=without)
    for name, info in type(schema).model_fields.items():
        extra = info.json_schema_extra
        value = getattr(schema, name)
        if (
            name in data
            and isinstance(extra, dict)
            and extra.get("neutral")
            and value == info.get_default(call_default_factory=True)
        ):
            del data[name]
        elif isinstance(value, Schema) and isinstance(data.get(name), dict):
            data[name] = plain(value)
    return data
