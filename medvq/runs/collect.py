"""The runs of a plan with their states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medvq.config.study import Table
from medvq.errors import NotFoundError, suggest
from medvq.runs.folder import RunFolder
from medvq.runs.plan import PlanRecord, last_plan, load_plan, plan_numbers
from medvq.runs.state import RunStatus, State, status_of, with_needs


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """One run of the plan."""

    run: str
    job: str
    values: dict[str, Any]
    folder: RunFolder
    state: State
    status: RunStatus
    also: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Further points of the study that are this run: job and values."""

    def places(self) -> list[RunEntry]:
        """Return the run once for each point of the study that it is."""
        return [self, *(replace(self, job=job, values=values) for job, values in self.also)]


@dataclass(frozen=True, kw_only=True)
class Collected:
    """A plan of a study with the states of its runs."""

    study: str
    folder: Path
    """`runs/<study>`."""
    plan: PlanRecord
    tables: dict[str, Table]
    entries: list[RunEntry]

    @property
    def smoke(self) -> bool:
        """Whether these are smoke runs, which use synthetic data."""
        return "--smoke" in self.plan.content["overrides"]


def study_folders(study: str | None, runs: Path) -> list[Path]:
    """Return the folder of a study, or of every study that has a plan.

    Args:
        study: name of the study, or path of its YAML file; None for all studies.
        runs: folder of all runs.

    Raises:
        NotFoundError: there is no such study, or no study at all.
    """
    folders = sorted(p.parent for p in runs.glob("*/plans")) if runs.is_dir() else []
    if study is None:
        if not folders:
            raise NotFoundError("no study has runs here", where=str(runs), hint="start one with `medvq run STUDY`")
        return folders
    name = Path(study).stem if study.endswith((".yaml", ".yml")) else study
    for folder in folders:
        if folder.name == name:
            return [folder]
    raise NotFoundError(
        f"no runs of a study named {name!r}", where=str(runs), hint=suggest(name, [p.name for p in folders])
    )


def collect(folder: Path, number: int | None = None) -> Collected:
    """Read a plan of a study and the state of each of its runs.

    Args:
        folder: `runs/<study>`.
        number: number of the plan; None for the last one.

    Raises:
        NotFoundError: there is no such plan.
    """
    plan = last_plan(folder) if number is None else load_plan(folder, number)
    if plan is None:
        raise NotFoundError("no plan", where=str(folder), hint="start the study with `medvq run`")
    return _collected(folder, plan)


def collect_all(folder: Path) -> Collected:
    """Read all plans of a study as one plan, which has the runs of all and the tables of the last one.

    A run that older plans have under another name is there once, as in the last plan that has it.
    """
    plans = [load_plan(folder, n) for n in plan_numbers(folder)]
    runs = {r.get("identity") or r["run"]: r for plan in plans for r in plan.runs}
    last = plans[-1]
    return _collected(folder, PlanRecord(number=last.number, content={**last.content, "runs": list(runs.values())}))


def _collected(folder: Path, plan: PlanRecord) -> Collected:
    folders = {r["run"]: RunFolder(folder / r["run"]) for r in plan.runs}
    statuses = {name: status_of(f) for name, f in folders.items()}
    states = with_needs(plan.runs, statuses)
    return Collected(
        study=folder.name,
        folder=folder,
        plan=plan,
        tables={n: Table.model_validate(t) for n, t in plan.content["tables"].items()},
        entries=[
            RunEntry(
                run=r["run"],
                job=r["job"],
                values=r["values"],
                folder=folders[r["run"]],
                state=states[r["run"]],
                status=statuses[r["run"]],
                also=tuple((a["job"], a["values"]) for a in r.get("also", ())),
            )
            for r in plan.runs
        ],
    )
