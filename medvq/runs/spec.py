"""run.json: all that a run does, resolved and written once, so that a queued SLURM job needs nothing else."""

from __future__ import annotations

from typing import Any

from medvq.config.data import Source
from medvq.config.plugins import CodeRef
from medvq.config.schema import Schema
from medvq.config.study import Job
from medvq.errors import DataError, NotFoundError
from medvq.files import read_json, write_json
from medvq.runs.folder import RunFolder


class DatasetRef(Schema):
    """A packed dataset that a run reads."""

    path: str
    """Its folder."""
    digest: str
    """The digest that it must have."""
    name: str = ""
    """What the dataset calls itself: the name in its recipe."""


class NeedRef(Schema):
    """A run that must be done first."""

    run: str
    """Name of its folder, beside this run's."""
    identity: str
    """Its identity."""
    checkpoint: str
    """Which of its checkpoints is read."""


class RunSpec(Schema):
    """One run: one job at one point of its matrix."""

    study: str
    """Name of the study."""
    run: str
    """Name of the run's folder."""
    job: str
    """Name of the job."""
    values: dict[str, Any]
    """Where on the job's matrix."""
    identity: str | None
    """12 hex digits of `science`; null before the dataset exists."""
    science: dict[str, Any]
    """All that the numbers depend on."""
    config: Job
    """The job at this point."""
    model: dict[str, Any]
    """The network's settings."""
    objective: dict[str, Any]
    """The task's settings."""
    source: Source
    """The entry of `data` that it reads."""
    datasets: dict[str, DatasetRef]
    """The packed datasets, by the name of their entry; those of a mixture by `entry.part`."""
    code: dict[str, CodeRef] = {}
    """The user's own model, task and metrics, by import path."""
    listeners: dict[str, str] = {}
    """The folder that Python imports each listener from, by import path."""
    needs: dict[str, NeedRef]
    """Runs that must be done first, by role."""

    @property
    def trained_code(self) -> dict[str, CodeRef]:
        """The user's own model and task, by import path. Metrics do not change what is trained."""
        return {path: ref for path, ref in self.code.items() if path not in self.config.metrics}


def write_spec(folder: RunFolder, spec: RunSpec, provenance: dict[str, Any]) -> None:
    """Write run.json, unless this run has one already."""
    if not folder.spec.exists():
        write_json(folder.spec, {**spec.model_dump(mode="json"), "provenance": provenance})


def read_spec(folder: RunFolder) -> RunSpec:
    """Read run.json.

    Raises:
        NotFoundError: there is none.
        DataError: it was written by another version of medvq or damaged.
    """
    record = read_json(folder.spec)
    if record is None:
        raise NotFoundError("no such run", where=str(folder.path))
    record.pop("provenance", None)
    try:
        return RunSpec.model_validate(record)
    except ValueError as e:
        raise DataError(f"this run.json cannot be read: {e}", where=str(folder.spec)) from e
