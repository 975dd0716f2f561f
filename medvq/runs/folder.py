"""The names of everything inside a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, `runs/<study>/<run>`."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def spec(self) -> Path:
        """What the run does; written once."""
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        """What happened, line by line."""
        return self.path / "events.jsonl"

    @property
    def owner(self) -> Path:
        """The attempt that may write."""
        return self.path / "owner"

    @property
    def result(self) -> Path:
        """The final metrics; there if and only if the run is done."""
        return self.path / "result.json"

    @property
    def progress(self) -> Path:
        """Where the present attempt is; for eyes only."""
        return self.path / "progress.json"

    @property
    def stop(self) -> Path:
        """Asks the present attempt to write a checkpoint and stop."""
        return self.path / "stop"

    @property
    def checkpoints(self) -> Path:
        """Weights and training state."""
        return self.path / "checkpoints"

    @property
    def artifacts(self) -> Path:
        """Pictures and predictions."""
        return self.path / "artifacts"

    @property
    def logs(self) -> Path:
        """One file per attempt and rank."""
        return self.path / "logs"

    @property
    def tensorboard(self) -> Path:
        """Curves for TensorBoard; for eyes only."""
        return self.logs / "tensorboard"

    def log(self, attempt: int, rank: int) -> Path:
        """The log of one rank in one attempt."""
        return self.logs / f"attempt-{attempt}-rank-{rank}.log"
