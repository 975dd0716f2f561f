"""Load studies and run them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from medvq.config.resolve import Study
from medvq.config.resolve import load_study as read_study
from medvq.errors import UsageError

if TYPE_CHECKING:
    from medvq.launch.watch import Watch
    from medvq.library.results import Results
    from medvq.runs.spec import RunSpec
    from medvq.runs.state import RunStatus, State


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What became of one run of a study."""

    name: str
    """The name of the run and of its folder."""
    job: str
    """The job that it is a run of."""
    values: dict[str, Any]
    """Its place in the job's matrix: the value of each axis by dotted path."""
    state: State
    """`done`, or why it is not."""
    folder: Path
    """The folder with its checkpoints, artifacts and logs."""
    metrics: dict[str, float]
    """Final metrics by name, such as `test/accuracy`; of a run that is not done, those of its last epoch."""


@dataclass(frozen=True, kw_only=True)
class StudyRuns(Sequence[RunSummary]):
    """The runs of a study, in an order in which needed runs come first."""

    study: str
    """The name of the study; a smoke test has its own, `<study>-smoke`."""
    folder: Path
    """The folder that holds the runs' folders."""
    runs: tuple[RunSummary, ...]

    @overload
    def __getitem__(self, at: int) -> RunSummary: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[RunSummary, ...]: ...
    def __getitem__(self, at: int | slice) -> RunSummary | tuple[RunSummary, ...]:
        return self.runs[at]

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[RunSummary]:
        return iter(self.runs)

    def __str__(self) -> str:
        return "\n".join([f"{self.study}: {len(self)} runs in {self.folder}", *(f"  {_line(run)}" for run in self)])

    def results(self) -> Results:
        """Return the study's tables; see `medvq.results`."""
        from medvq.library.results import results

        return results(self.study, runs=self.folder.parent)


def _line(run: RunSummary) -> str:
    shown = [f"{name} {value:.4g}" for name, value in run.metrics.items() if name.startswith("test/")][:4]
    return "  ".join([run.name, run.state, ", ".join(shown)]).rstrip()


def load_study(
    study: str | os.PathLike[str], *, sets: Mapping[str, Any] | Sequence[str] = (), smoke: bool = False
) -> Study:
    """Load a study and check it; no data are read.

    Args:
        study: path of a study file, or the name of one in `./jobs` or among those that medvq ships.
        sets: values to lay over jobs, as `--set` does: `{"finetune:train.epochs": 5}` or
            `["finetune:train.epochs=5"]`. A key without a job applies to all jobs.
        smoke: load the small version for a quick test, which trains on synthetic images.

    Returns:
        The study: `name`, `about`, `data`, `tables`, and `jobs`, which maps each job to its points. A point is one
        setting of the job's matrix and becomes one run; `point.config` is the job as it will run, `point.values` its
        place in the matrix.

    Raises:
        NotFoundError: there is no such study.
        ConfigError: the study has mistakes; the error lists all of them with their lines.

    Example:
        >>> import medvq
        >>> study = medvq.load_study("quickstart", sets={"pretrain:train.epochs": 3})
        >>> {job: len(points) for job, points in study.jobs.items()}
        {'pretrain': 1, 'finetune': 4, 'scratch': 4}
        >>> study.jobs["pretrain"][0].config.train.epochs
        3
    """
    return read_study(os.fspath(study), sets=_set_options(sets), smoke=smoke)


def _set_options(sets: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Return `[JOB:]PATH=VALUE` texts, as `--set` takes them."""
    if isinstance(sets, str):
        return [sets]
    if isinstance(sets, Mapping):
        return [f"{path}={json.dumps(value)}" for path, value in sets.items()]
    return list(sets)


def run(
    study: str | os.PathLike[str] | Study,
    *,
    sets: Mapping[str, Any] | Sequence[str] = (),
    smoke: bool = False,
    only: str | Sequence[str] = (),
    data: Mapping[str, str | os.PathLike[str]] | None = None,
    datasets: str | os.PathLike[str] = "datasets",
    runs: str | os.PathLike[str] = "runs",
    workers: int | Literal["auto"] | None = None,
    parallel: int | Literal["auto"] = 1,
    time_budget: float | str | None = None,
    cache: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> StudyRuns:
    """Run a study on this machine, as `medvq run` does, and wait for it.

    Runs that are done are not repeated; stopped ones continue from their last checkpoint, failed ones are tried
    again. In the main thread Ctrl-C (in a notebook: "interrupt the kernel") writes a checkpoint and stops.

    Args:
        study: name or path of a study, or one from `load_study`.
        sets: see `load_study`; not with a loaded study.
        smoke: see `load_study`; not with a loaded study.
        only: run only this job, or these jobs, and the jobs that they need.
        data: folder of the packed dataset for entries of the study's `data`, by name.
        datasets: folder in which the other datasets are looked for.
        runs: folder of all runs; the study gets a folder in it.
        workers: worker processes of each run; 0 trains in this process, without Ray; `auto` starts one per GPU, else
            one per core. By default as the study says, else `auto`.
        parallel: number of runs side by side; `auto` runs as many as there is room for.
        time_budget: stop with a checkpoint after this time: seconds, or text such as "2 h".
        cache: folder on a local disk to which datasets are copied first.
        say: called with each line about the progress, for example `print`; by default nothing is said.

    Returns:
        The runs, all of them done.

    Raises:
        NotFoundError: the study, a job or a dataset does not exist.
        UsageError: the study or an argument has a mistake (ConfigError), or does not fit the data.
        DataError: a dataset is damaged, or a test image was trained on.
        RunsFailedError: runs failed; their logs say why.
        StoppedError: the study was stopped; the same call continues it.

    Example:
        >>> import medvq
        >>> study = medvq.load_study("quickstart", smoke=True)
        >>> runs = medvq.run(study, only="pretrain", data={"cells": "datasets/smear"}, workers=0)
        >>> runs[0].job, runs[0].state
        ('pretrain', 'done')
        >>> 0 < runs[0].metrics["test/mse"] < 0.5
        True
    """
    from medvq.launch.start import Request, execute, plan_for, states_of, unfinished

    if isinstance(study, Study) and (sets or smoke):
        raise UsageError("a loaded study takes no sets and no smoke", hint="give them to load_study")
    request = Request(
        study=study if isinstance(study, Study) else os.fspath(study),
        sets=_set_options(sets),
        smoke=smoke,
        only=[only] if isinstance(only, str) else only,
        data={name: os.fspath(folder) for name, folder in (data or {}).items()},
        datasets=Path(datasets),
        runs=Path(runs),
        workers=workers,
        cache=None if cache is None else Path(cache),
    )
    watch = _watch(say)
    plan = plan_for(request, watch)
    stopped = False
    if any(state != "done" for state, _ in states_of(plan).values()):
        stopped = execute(plan, watch, parallel=parallel, budget=_seconds(time_budget))
    error = unfinished(plan, stopped)
    if error is not None:
        raise error
    states = states_of(plan)
    return StudyRuns(
        study=plan.study.name,
        folder=plan.folder,
        runs=tuple(
            RunSummary(
                name=spec.run,
                job=spec.job,
                values=spec.values,
                state=states[spec.run][0],
                folder=plan.folder / spec.run,
                metrics=states[spec.run][1].metrics,
            )
            for spec in plan.runs
        ),
    )


def _watch(say: Callable[[str], None] | None) -> Watch:
    from medvq.launch.watch import Watch

    tell = say or (lambda text: None)

    def ended(spec: RunSpec, status: RunStatus) -> None:
        tell(f"{spec.run}  {status.state}" + (f"  {status.failure['error']}" if status.failure else ""))

    return Watch(active=lambda spec, status: None, ended=ended, note=tell)


def _seconds(time_budget: float | str | None) -> float | None:
    from medvq.config.units import seconds

    if not isinstance(time_budget, str):
        return time_budget
    try:
        return seconds(time_budget)
    except ValueError as e:
        raise UsageError(str(e), where="time_budget") from e
