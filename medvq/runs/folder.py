"""Paths inside a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, `runs/<study>/<run>`."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def spec(self) -> Path:
        """The resolved configuration, written once when the run is planned."""
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        """The events of the run, one JSON object per line."""
        return self.path / "events.jsonl"

    @property
    def owner(self) -> Path:
        """The attempt that may write into this folder."""
        return self.path / "owner"

    @property
    def result(self) -> Path:
        """The final metrics. The file exists if and only if the run is done."""
        return self.path / "result.json"

    @property
    def progress(self) -> Path:
        """Progress of the running attempt, for display only."""
        return self.path / "progress.json"

    @property
    def stop(self) -> Path:
        """If this file exists, the running attempt writes a checkpoint and stops."""
        return self.path / "stop"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints: weights and training state."""
        return self.path / "checkpoints"

    @property
    def artifacts(self) -> Path:
        """Figures and predictions."""
        return self.path / "artifacts"

    @property
    def logs(self) -> Path:
        """Logs, one file for each attempt and rank."""
        return self.path / "logs"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard event files, for display only."""
        return self.logs / "tensorboard"

    def log(self, attempt: int, rank: int) -> Path:
        """Return the path of the log of one rank in one attempt."""
        return self.logs / f"attempt-{attempt}-rank-{rank}.log"
