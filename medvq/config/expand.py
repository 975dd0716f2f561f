"""Expand the matrix of a job into points, and check each."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from medvq.config import merge
from medvq.config.as_published import switches
from medvq.config.extensions import check_listener, with_metrics
from medvq.config.plugins import CodeRef, code_of, root_of
from medvq.config.schema import S, problems_of, validate
from medvq.config.settings import ModelSettings, Objective, model_settings
from medvq.config.study import Job, JobEntry
from medvq.config.task_info import TaskInfo, find_task
from medvq.config.yamlfile import Document, KeyPath
from medvq.errors import ConfigError, Problem, UsageError, suggest
from medvq.keys import canonical_json
from medvq.registry import is_import_path


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a job's matrix: everything that a run will do, except the digests of its data."""

    job: str
    """Name of the job."""
    values: dict[str, Any]
    """Its place in the matrix: value by dotted path."""
    config: Job
    """The job at this point."""
    model: ModelSettings
    """The network's settings."""
    objective: Objective
    """The task's settings."""
    task: TaskInfo
    """The task, with the metrics of the user's own among those that it declares."""
    code: dict[str, CodeRef]
    """The user's own model, task and metrics, by import path."""
    listeners: dict[str, str]
    """The folder that Python imports each listener from, by import path."""


@dataclass(frozen=True)
class Override:
    """One value from the command line that replaces a value of jobs."""

    option: str
    """The option as it was typed, for messages."""
    job: str | None
    path: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class RawJob:
    """A job with defaults and overrides applied, before it is read as a `Job`."""

    name: str
    document: Document
    """The document with the places of its keys; the job is at `at`."""
    body: dict[str, Any]
    """Its keys without matrix and points."""
    matrix: dict[str, list[Any]]
    points: list[dict[str, Any]]

    @property
    def at(self) -> KeyPath:
        """Key path of the job in its document."""
        return ("jobs", self.name)

    @property
    def needs(self) -> list[str]:
        """Names of the jobs that it needs."""
        needs = self.body.get("needs")
        found = needs.values() if isinstance(needs, dict) else ()
        return [str(n["job"]) for n in found if isinstance(n, dict) and "job" in n]


def raw_job(name: str, document: Document, overrides: Sequence[Override]) -> RawJob:
    """Apply the defaults of the study, the job's own keys and the overrides, in this order.

    Raises:
        ConfigError: the matrix or points cannot be read.
    """
    at: KeyPath = ("jobs", name)
    bare = replace(document, data=merge.set_path(document.data, at, {}))
    doc = merge.overlay(bare, document, source=("defaults",), target=at)
    doc = merge.overlay(doc, document, source=at, target=at)
    body = dict(merge.get_path(doc.data, at))
    entry = validate(JobEntry, doc, {k: body.pop(k) for k in ("matrix", "points") if k in body}, at)
    matrix, places = dict(entry.matrix), dict(doc.places)
    for override in overrides:
        path = tuple(override.path.split("."))
        for end in range(1, len(path)):
            places.setdefault((*at, *path[:end]), override.option)
        places[(*at, *path)] = override.option
        if override.path in matrix:
            matrix[override.path] = override.value if isinstance(override.value, list) else [override.value]
        else:
            body = merge.set_path(body, path, override.value)
    for axis in matrix:
        places.setdefault((*at, *axis.split(".")), doc.where((*at, "matrix", axis)).partition(": ")[0])
    return RawJob(name=name, document=replace(doc, places=places), body=body, matrix=matrix, points=entry.points)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Names that the points of a job may refer to."""

    data: Mapping[str, Any]
    """The study's data by name, as written in the file."""
    jobs: Collection[str]
    """Names of its jobs."""
    done: Mapping[str, Sequence[Point]]
    """Points of the jobs before this one."""


def points(raw: RawJob, around: Surroundings, problems: list[Problem]) -> list[Point]:
    """Return the valid points of a job, each once; add what is wrong to `problems`.

    A point that says the same as an earlier one, such as a subset of 50.0 after one of 50, is left out.
    """
    found: dict[str, Point] = {}
    for values in _values(raw.matrix, raw.points):
        body = raw.body
        for axis, value in values.items():
            body = merge.set_path(body, tuple(axis.split(".")), value)
        point = _point(raw, values, body, around, problems)
        if point:
            settings = (point.config, point.model, point.objective)
            found.setdefault(canonical_json([s.model_dump(mode="json") for s in settings]), point)
    return list(found.values())


def _values(matrix: dict[str, list[Any]], points: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the points of the grid, the last axis fastest, then the explicit points."""
    if matrix or not points:
        for combination in itertools.product(*matrix.values()):
            yield dict(zip(matrix, combination, strict=True))
    yield from points


def _point(
    raw: RawJob,
    values: dict[str, Any],
    body: dict[str, Any],
    around: Surroundings,
    problems: list[Problem],
) -> Point | None:
    """Return one checked point, or None after adding what is wrong to `problems`."""
    at, doc, name = raw.at, raw.document, raw.name
    before = len(problems)

    def wrong(path: KeyPath, error: str, hint: str | None = None) -> None:
        problems.append(Problem(where=doc.where((*at, *path)), error=error, hint=hint))

    task: TaskInfo | None = None
    if body.get("task"):
        try:
            task = find_task(str(body["task"]))
        except UsageError as e:
            wrong(("task",), e.error, e.hint)
    try:
        job = Job.model_validate(body)
    except ValidationError as e:
        problems += problems_of(e, Job, doc, at)
        return None
    if task is None:
        return None
    if job.data.use not in around.data:
        wrong(("data", "use"), f"no data named {job.data.use!r}", suggest(job.data.use, around.data))
    source = around.data.get(job.data.use)
    if isinstance(source, Mapping) and source.get("channels") == 1:
        for change in job.data.augment.rgb_only:
            wrong(
                ("data", "augment", change),
                f"grey images have no {change}",
                f"remove it, or set channels: 3 for {job.data.use}",
            )
    for role in task.requires:
        if role not in job.needs:
            wrong(("needs", role), "this key is required", f"the task {task.name} needs {task.roles[role]}")
    for role, need in job.needs.items():
        if role not in task.roles:
            wrong(("needs", role), f"the task {task.name} has no role {role!r}", suggest(role, task.roles))
        if need.job not in around.jobs:
            wrong(("needs", role, "job"), f"no job named {need.job!r}", suggest(need.job, around.jobs))
        elif around.done.get(need.job) and matching(around.done[need.job], values) is None:
            wrong(
                ("needs", role),
                f"job {need.job} has several runs for one of {name}'s",
                "share the axes that tell them apart",
            )
    workers, batch, parts = job.resources.workers, job.train.batch_size, job.train.accumulate
    if isinstance(workers, int) and workers > 1 and batch % (workers * parts):
        each = f", each in {parts} parts," if parts > 1 else ""
        wrong(("resources", "workers"), f"{workers} workers{each} do not divide the batch of {batch}")
    for i in range(len(job.metrics)):
        try:
            task = with_metrics(task, job.metrics[i : i + 1])
        except UsageError as e:
            wrong(("metrics", i), e.error, e.hint)
    for i, listener in enumerate(job.resources.listeners):
        try:
            check_listener(listener)
        except UsageError as e:
            wrong(("resources", "listeners", i), e.error, e.hint)
    objective = _typed(task.objective, job.objective, doc, (*at, "objective"), problems)
    model = _model(job, values, doc, at, around.done, problems)
    if len(problems) > before or objective is None or model is None:
        return None
    known = switches(task, model)
    for switch in job.as_published:
        if switch not in known:
            wrong(("as_published",), f"nothing here was published with {switch!r}", suggest(switch, known))
    own = [*([job.task] if is_import_path(job.task) else []), *model.import_paths, *job.metrics]
    code = {n: code_of(n) for n in own}
    if len(problems) > before:
        return None
    return Point(
        job=name,
        values=values,
        config=job,
        model=model,
        objective=objective,
        task=task,
        code=code,
        listeners={n: str(root_of(n)) for n in job.resources.listeners},
    )


def matching(points: Sequence[Point], values: dict[str, Any]) -> Point | None:
    """Return the point that agrees with `values` on shared axes; None if there is none or more than one."""
    found = [p for p in points if all(values[a] == v for a, v in p.values.items() if a in values)]
    return found[0] if len(found) == 1 else None


def _typed(kind: type[S], raw: Any, doc: Document, at: KeyPath, problems: list[Problem]) -> S | None:
    try:
        return validate(kind, doc, raw, at)
    except ConfigError as e:
        problems += e.problems
        return None


def _model(
    job: Job,
    values: dict[str, Any],
    doc: Document,
    at: KeyPath,
    done: Mapping[str, Sequence[Point]],
    problems: list[Problem],
) -> ModelSettings | None:
    """Return the settings of the network: the job's own, else those of the run it starts from."""
    if job.model is None:
        init = job.needs.get("init")
        source = matching(done.get(init.job, []), values) if init else None
        if source is None and not (init and not done.get(init.job)):
            problems.append(
                Problem(where=doc.where((*at, "model")), error="this key is required", hint="or need an init run")
            )
        return source.model if source else None
    try:
        if "name" not in job.model:
            raise UsageError("the model needs a name")
        kind = model_settings(str(job.model["name"]))
    except UsageError as e:
        problems.append(Problem(where=doc.where((*at, "model", "name")), error=e.error, hint=e.hint))
        return None
    return _typed(kind, job.model, doc, (*at, "model"), problems)
