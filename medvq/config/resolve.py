"""Read a study: defaults, overrides, matrix, and every check that needs no data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medvq.config import merge
from medvq.config.data import Source
from medvq.config.expand import Override, Point, RawJob, Surroundings, points, raw_job
from medvq.config.locate import find
from medvq.config.schema import validate
from medvq.config.study import StudyFile, Table
from medvq.config.tables import table_problems
from medvq.config.yamlfile import Document, read_yaml
from medvq.errors import ConfigError, NotFoundError, Problem, suggest


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study with everything resolved and checked. `medvq.load_study` makes one."""

    name: str
    about: str
    data: dict[str, Source]
    jobs: dict[str, list[Point]]
    """The points of every job; needed jobs come first."""
    tables: dict[str, Table]
    text: str
    """The text of the file."""
    overrides: tuple[str, ...]
    """The options that changed it, such as `--set` and `--smoke`."""
    smoke: bool


def load_study(
    name: str | Path, *, sets: Sequence[str] = (), overrides: Sequence[Override] = (), smoke: bool = False
) -> Study:
    """Read and check a study.

    Raises:
        NotFoundError: there is no such study.
        ConfigError: the study has mistakes; the error lists all.
    """
    document = _extended(read_yaml(find("jobs", name)), ())
    given = [Override(f"--set {text}", *merge.parse_set(text)) for text in sets] + list(overrides)
    if smoke:
        document = merge.overlay(document, document, source=("smoke",))
    problems: list[Problem] = []
    file: StudyFile | None = None
    try:
        file = validate(StudyFile, document)
    except ConfigError as e:
        problems += e.problems
    jobs = _jobs(document, given, problems)
    if file is not None and not problems:
        facts = {
            job: [(p.task, p.values, file.data[p.config.data.use].measured) for p in found]
            for job, found in jobs.items()
        }
        problems += table_problems(file.tables, facts, document)
    if problems or file is None:
        raise ConfigError(dict.fromkeys(problems))
    return Study(
        name=file.study + ("-smoke" if smoke else ""),
        about=file.about,
        data=file.data,
        jobs=jobs,
        tables=file.tables,
        text=document.text,
        overrides=(*(o.option for o in given), *(["--smoke"] if smoke else [])),
        smoke=smoke,
    )


def _jobs(document: Document, given: Sequence[Override], problems: list[Problem]) -> dict[str, list[Point]]:
    """Return the points of every job, needed jobs first, even if the rest of the file is wrong."""
    bodies = {n: j for n, j in _mapping(document, "jobs").items() if isinstance(j, dict)}
    for override in given:
        if override.job is not None and override.job not in bodies:
            hint = suggest(override.job, bodies)
            problems.append(Problem(where=override.option, error=f"no job named {override.job!r}", hint=hint))
    raws: dict[str, RawJob] = {}
    for job in bodies:
        try:
            raws[job] = raw_job(job, document, [o for o in given if o.job in (None, job)])
        except ConfigError as e:
            problems += e.problems
    order, cycle = needs_first({name: raw.needs for name, raw in raws.items()})
    if cycle:
        where = raws[cycle[0]].document.where(("jobs", cycle[0], "needs"))
        problems.append(Problem(where=where, error=f"jobs need each other in a circle: {' -> '.join(cycle)}"))
        return {}
    jobs: dict[str, list[Point]] = {}
    for job in order:
        around = Surroundings(data=_mapping(document, "data"), jobs=bodies, done=jobs)
        jobs[job] = points(raws[job], around, problems)
    return jobs


def _mapping(document: Document, key: str) -> dict[str, Any]:
    """Return the mapping under a key of the file; empty if it is something else."""
    value = document.data.get(key)
    return value if isinstance(value, dict) else {}


def _extended(document: Document, seen: tuple[str, ...]) -> Document:
    """Return the document merged over the one that it extends, which is extended in the same way."""
    base = document.data.get("extends")
    if base is None:
        return document
    beside = Path(document.path).parent / f"{base}.yaml"
    try:
        path = beside if beside.is_file() else find("jobs", str(base))
    except NotFoundError as e:
        raise ConfigError([Problem(where=document.where(("extends",)), error=e.error, hint=e.hint)]) from e
    if str(path) in seen:
        raise ConfigError([Problem(where=document.where(("extends",)), error="studies extend each other in a circle")])
    under = _extended(read_yaml(path), (*seen, str(path)))
    return replace(merge.overlay(under, document), path=document.path, text=document.text)


def needs_first(wants: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """Return the jobs in topological order, needed ones first, and the cycle of needs if there is one."""
    order: list[str] = []

    def visit(job: str, trail: tuple[str, ...]) -> list[str]:
        if job in trail:
            return [*trail[trail.index(job) :], job]
        if job not in order:
            for needed in wants[job]:
                circle = visit(needed, (*trail, job)) if needed in wants else []
                if circle:
                    return circle
            order.append(job)
        return []

    for job in wants:
        circle = visit(job, ())
        if circle:
            return order, circle
    return order, []
