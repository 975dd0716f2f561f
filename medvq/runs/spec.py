"""run.json: the resolved configuration of a run. It is written once; a queued SLURM job needs nothing else."""

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
    """Folder of the dataset."""
    digest: str
    """Digest that the dataset must have."""
    name: str = ""
    """Name in the recipe of the dataset."""


class NeedRef(Schema):
    """Another run that must be done before this one starts."""

    run: str
    """Name of the other run's folder, which is in the same study folder."""
    identity: str
    """Identity of the other run."""
    checkpoint: str
    """Checkpoint of the other run that is read."""


class RunSpec(Schema):
    """One run: one job at one point of its matrix."""

    study: str
    """Name of the study."""
    run: str
    """Name of the run's folder."""
    job: str
    """Name of the job."""
    values: dict[str, Any]
    """Values on the axes of the job's matrix."""
    identity: str | None
    """12 hex digits of the hash of `science`; null if the dataset does not exist yet."""
    science: dict[str, Any]
    """Everything that the numbers of the run depend on."""
    config: Job
    """The job with the values of this run."""
    model: dict[str, Any]
    """Settings of the model."""
    objective: dict[str, Any]
    """Settings of the task."""
    source: Source
    """The entry of `data` that the run reads."""
    datasets: dict[str, DatasetRef]
    """Packed datasets by the name of their entry in `data`; parts of a mixture by `entry.part`."""
    code: dict[str, CodeRef] = {}
    """The user's own model, task and metrics, by import path."""
    listeners: dict[str, str] = {}
    """The folder that Python imports each listener from, by import path."""
    needs: dict[str, NeedRef]
    """Runs that must be done before this one, by role."""

    @property
    def trained_code(self) -> dict[str, CodeRef]:
        """The user's own model and task, by import path. Metrics do not change what is trained."""
        return {path: ref for path, ref in self.code.items() if path not in self.config.metrics}


def write_spec(folder: RunFolder, spec: RunSpec, provenance: dict[str, Any]) -> None:
    """Write run.json, unless it exists."""
    if not folder.spec.exists():
        write_json(folder.spec, {**spec.model_dump(mode="json"), "provenance": provenance})


def read_spec(folder: RunFolder) -> RunSpec:
    """Read run.json.

    Raises:
        NotFoundError: there is no such file.
        DataError: the file is damaged or was written by an incompatible version of medvq.
    """
    record = read_json(folder.spec)
    if record is None:
        raise NotFoundError("no such run", where=str(folder.path))
    record.pop("provenance", None)
    try:
        return RunSpec.model_validate(record)
    except ValueError as e:
        raise DataError(f"this run.json cannot be read: {e}", where=str(folder.spec)) from e
