"""From a study to its runs: one per point, with a name, an identity and the runs that it needs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvq.config.expand import Point, matching
from medvq.config.identity import identity, plain, science
from medvq.config.resolve import Study
from medvq.errors import NotFoundError, suggest
from medvq.files import make_folder
from medvq.keys import canonical_json
from medvq.launch.check import Seen, check_data, check_disjoint
from medvq.launch.data import Found
from medvq.runs.folder import RunFolder
from medvq.runs.plan import PlanRecord, save_plan
from medvq.runs.provenance import provenance
from medvq.runs.spec import NeedRef, RunSpec, write_spec


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs of one study; each comes after the runs that it needs."""

    runs: tuple[RunSpec, ...]
    folder: Path
    """`runs/<study>`."""

    def folder_of(self, run: RunSpec) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.folder / run.run)


@dataclass(frozen=True, kw_only=True)
class StudyPlan(Runs):
    """The runs of a study that is to be done, one per identity."""

    study: Study
    also: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    """Further points of the study with the identity of a run, by the name of the run."""


def jobs_for(study: Study, only: Sequence[str]) -> list[str]:
    """Return the requested jobs and the jobs that they need, in topological order; without a request, all jobs.

    Raises:
        NotFoundError: the study has no such job.
    """
    wanted: set[str] = set()

    def add(job: str) -> None:
        if job not in study.jobs:
            raise NotFoundError(f"the study has no job {job!r}", hint=suggest(job, study.jobs))
        wanted.add(job)
        for point in study.jobs[job]:
            for need in point.config.needs.values():
                add(need.job)

    for job in only or study.jobs:
        add(job)
    return [job for job in study.jobs if job in wanted]


def make_plan(study: Study, found: Mapping[str, Found | None], *, runs: Path, only: Sequence[str] = ()) -> StudyPlan:
    """Return the runs of a study, given its datasets, one per identity. Nothing is written.

    A run that has a folder under another name keeps it: names change with the axes of a matrix, identities do not.

    Args:
        study: the study.
        found: its datasets by name; None for those that are not there.
        runs: the folder of all runs.
        only: the requested jobs; empty means all.

    Raises:
        UsageError: a dataset lacks what a job needs.
        DataError: training images of a needed run are in this run's test split.
    """
    jobs = jobs_for(study, only)
    check_data(study, jobs, found)
    folder = runs / study.name
    known = folders_by_identity(folder)
    specs: dict[str, RunSpec] = {}
    also: dict[str, tuple[Point, ...]] = {}
    by_point: dict[int, RunSpec] = {}
    trained_on: dict[str, list[Seen]] = {}
    for job in jobs:
        for point in study.jobs[job]:
            needs: dict[str, NeedRef] = {}
            for role, need in point.config.needs.items():
                other = matching(study.jobs[need.job], point.values)
                assert other is not None, "checked when the study was read"
                needed = by_point[id(other)]
                needs[role] = NeedRef(run=needed.run, identity=needed.identity or "", checkpoint=need.checkpoint)
                for test in _tests(study, point, found):
                    for seen in trained_on[needed.run]:
                        check_disjoint(seen, test, job=job, needed=needed.run)
            spec = _spec(study, point, found, needs)
            key = spec.identity or canonical_json(
                [job, point.config.data.use, {r: n.run for r, n in needs.items()}, spec.science]
            )
            if key in specs:
                spec = specs[key]
                also[spec.run] = (*also.get(spec.run, ()), point)
            elif spec.identity in known:
                spec = spec.model_copy(update={"run": preferred(folder, known[spec.identity], spec.run)})
            specs.setdefault(key, spec)
            by_point[id(point)] = spec
            # Images that a needed run was trained on count as training images of this run, too.
            trained_on[spec.run] = _seen(study, point, found) + [s for n in needs.values() for s in trained_on[n.run]]
    return StudyPlan(study=study, runs=tuple(specs.values()), folder=folder, also=also)


def folders_by_identity(study_folder: Path) -> dict[str | None, list[str]]:
    """Return the names of the run folders of a study by identity, which is the end of a name. Nothing is opened."""
    found: dict[str | None, list[str]] = {}
    for name in sorted(os.listdir(study_folder)) if study_folder.is_dir() else []:
        match = re.search(r"-([0-9a-f]{12})$", name)
        if match and not name.startswith("."):
            found.setdefault(match[1], []).append(name)
    return found


def preferred(study_folder: Path, names: Sequence[str], new: str) -> str:
    """Return the run folder to go on with, of those of one identity: done, else begun, else `new`, else the first.

    Args:
        study_folder: `runs/<study>`.
        names: names of the folders with this identity, at least one.
        new: the name that a new folder would have.
    """

    def rank(name: str) -> tuple[bool, bool, bool, str]:
        folder = RunFolder(study_folder / name)
        return (not folder.result.exists(), not folder.events.exists(), name != new, name)

    return min(names, key=rank)


def _seen(study: Study, point: Point, found: Mapping[str, Found | None]) -> list[Seen]:
    """Return the datasets that a run of `point` trains on and that are there."""
    entry = point.config.data.use
    source = study.data[entry]
    there = [found[name] for name in source.origins(entry)]
    return [Seen(found=data, everything=source.splits == "all") for data in there if data is not None]


def _tests(study: Study, point: Point, found: Mapping[str, Found | None]) -> list[Found]:
    """Return the datasets that are there and on whose test split a run of `point` is measured."""
    entry = point.config.data.use
    source = study.data[entry]
    there = [found[name] for name in source.origins(entry)] if source.held_out else []
    return [data for data in there if data is not None]


def _spec(study: Study, point: Point, found: Mapping[str, Found | None], needs: dict[str, NeedRef]) -> RunSpec:
    entry = point.config.data.use
    source = study.data[entry]
    data = {name: found.get(name) for name in source.origins(entry)}
    refs = {name: there.ref for name, there in data.items() if there is not None}
    known = len(refs) == len(data) and all(n.identity for n in needs.values())
    digests = {name: ref.digest for name, ref in refs.items()}
    facts = science(point, source, digests, {role: n.identity for role, n in needs.items()})
    made = identity(facts) if known else None
    return RunSpec(
        study=study.name,
        run="-".join(filter(None, [point.job, *(slug(a, v) for a, v in point.values.items()), made])),
        job=point.job,
        values=point.values,
        identity=made,
        science=facts,
        config=point.config,
        model=plain(point.model),
        objective=plain(point.objective),
        source=source,
        code=point.code,
        listeners=point.listeners,
        datasets=refs,
        needs=needs,
    )


def slug(axis: str, value: Any) -> str:
    """Return a short text for a value of an axis that is safe in a folder name: `data.subset`, 10 gives `subset10`."""
    last = axis.rpartition(".")[2]
    return re.sub(r"[^A-Za-z0-9.]+", "_", f"{last}{value}").strip("_")


def record(plan: StudyPlan) -> PlanRecord:
    """Write the plan and the run.json of every run; an unchanged plan keeps its number."""
    make_folder(plan.folder)
    facts: dict[str, Any] | None = None
    for spec in plan.runs:
        folder = plan.folder_of(spec)
        if not folder.spec.exists():
            facts = facts or provenance()
            make_folder(folder.path)
            write_spec(folder, spec, facts)
    left_out = sorted(
        set(plan.study.jobs) - {s.job for s in plan.runs} - {p.job for also in plan.also.values() for p in also}
    )
    content = {
        "study": plan.study.name,
        "text": plan.study.text,
        "overrides": list(plan.study.overrides),
        "tables": {n: t.model_dump(mode="json") for n, t in plan.study.tables.items()},
        "datasets": {name: ref.model_dump() for spec in plan.runs for name, ref in spec.datasets.items()},
        "runs": [
            {
                "run": s.run,
                "job": s.job,
                "values": s.values,
                "identity": s.identity,
                "needs": {role: n.model_dump() for role, n in s.needs.items()},
                **_further(plan.also.get(s.run, ())),
            }
            for s in plan.runs
        ],
        **({"left_out": left_out} if left_out else {}),
    }
    return save_plan(plan.folder, content)


def _further(points: Sequence[Point]) -> dict[str, Any]:
    """Return the further places of a run in the study's tables, as JSON data for the plan."""
    return {"also": [{"job": p.job, "values": p.values} for p in points]} if points else {}
