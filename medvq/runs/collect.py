"""What the runs of a plan have come to."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Collected:
    """A study's last plan with the state of its runs."""

    study: str
    folder: Path
    """`runs/<study>`."""
    plan: PlanRecord
    tables: dict[str, Table]
    entries: list[RunEntry]

    @property
    def smoke(self) -> bool:
        """Whether these are smoke runs, on other data than the paper's."""
        return "--smoke" in self.plan.content["overrides"]


def study_folders(study: str | None, runs: Path) -> list[Path]:
    """The folder of a study's runs, or those of all studies that have a plan.

    Raises:
        NotFoundError: there is none.
    """
    there = sorted(p.parent for p in runs.glob("*/plans")) if runs.is_dir() else []
    if study is None:
        if not there:
            raise NotFoundError("no study has runs here", where=str(runs), hint="start one with `medvq run STUDY`")
        return there
    name = Path(study).stem if study.endswith((".yaml", ".yml")) else study
    for folder in there:
        if folder.name == name:
            return [folder]
    raise NotFoundError(
        f"no runs of a study named {name!r}", where=str(runs), hint=suggest(name, [p.name for p in there])
    )


def collect(folder: Path, number: int | None = None) -> Collected:
    """Read a plan of a study, the last one unless told, and the folder of each of its runs.

    Raises:
        NotFoundError: there is no plan.
    """
    plan = last_plan(folder) if number is None else load_plan(folder, number)
    if plan is None:
        raise NotFoundError("no plan", where=str(folder), hint="start the study with `medvq run`")
    return _collected(folder, plan)


def collect_all(folder: Path) -> Collected:
    """Read every plan of a study as one: the runs of all, with the tables of the last."""
    plans = [load_plan(folder, n) for n in plan_numbers(folder)]
    runs = {r["run"]: r for plan in plans for r in plan.runs}
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
            )
            for r in plan.runs
        ],
    )
