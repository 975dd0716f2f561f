"""What a study may ask of a task: its objective, the roles that other runs play in it, and the metrics it declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from medvq.config.settings import Objective
from medvq.errors import UsageError
from medvq.registry import TASKS

Better = Literal["min", "max"]


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """A task as a study sees it. Importing it does not import torch."""

    name: str
    revision: int
    """Raised when the same configuration would give other numbers; part of every run's identity."""
    objective: type[Objective]
    """Settings class of what the task minimises."""
    metrics: dict[str, Better]
    """The metrics in `result.json`, and which way is better."""
    select: str
    """The validation metric that picks the best checkpoint."""
    roles: dict[str, str] = field(default_factory=dict)
    """What a run may need of other runs: a description by role. `init` gives the weights that a run starts from; the
    run behind any other role is opened by the task as `needs[role]`."""
    requires: tuple[str, ...] = ()
    """The roles that a run cannot do without."""
    labels: bool = False
    """Whether the data must have labels."""
    head: bool = False
    """Whether the model gets a classifier head."""
    fits: bool = False
    """Whether the task learns in one go from what it measures of the training view, instead of step by step."""
    default_checkpoint: Literal["best", "last"] = "best"
    """The checkpoint that the test metrics come from."""
    optional: dict[str, Better] = field(default_factory=dict)
    """Metrics that only some settings give."""
    as_published: dict[str, str] = field(default_factory=dict)
    """Mistakes of papers that can be switched on, by name, each described in a line."""
    packages: tuple[str, ...] = ()
    """Top-level modules of optional packages that the task imports; they are checked before any run starts."""

    def __post_init__(self) -> None:
        if not (isinstance(self.objective, type) and issubclass(self.objective, Objective)):
            raise TypeError(f"the objective of task {self.name} does not derive from medvq.config.settings.Objective")
        unknown = [role for role in self.requires if role not in self.roles]
        if unknown:
            raise ValueError(f"task {self.name} requires roles that it does not declare: {', '.join(unknown)}")

    @property
    def declared(self) -> dict[str, Better]:
        """Every metric that a table may ask for."""
        everything = {**self.metrics, **self.optional}
        tests = {n: b for n, b in everything.items() if n.split("/")[0] in ("test", "val+test")}
        return {**everything, **{f"{name}{suffix}": better for name, better in tests.items() for suffix in WATCHED}}


SPLITS = ("val", "test", "val+test", "train")
"""What can be measured at the end of a run; `train` only if nothing is held out."""

WATCHED = {
    "_last": "after the last epoch",
    "_last10": "mean over the last ten epochs",
    "_best_on_test": "of the epoch that is best on test: chosen by the test split, as papers did, and optimistic",
}
"""What `train.watch_test` adds to each test metric; the last one only under `as_published: [best_on_test]`."""

OF_EVERY_TASK = {
    "best_on_test": "test metrics of the epoch that is best on the test split are given too, marked so in their names"
}
INIT = {"init": "a run whose weights this one starts from"}
CLASSIFICATION: dict[str, Better] = {"accuracy": "max", "balanced_accuracy": "max", "macro_f1": "max", "auc": "max"}
"""The metrics that `medvq.metrics.classification.summary` gives."""


def per_split(metrics: Mapping[str, Better]) -> dict[str, Better]:
    """Return the metrics of every split, by their full names."""
    return {f"{split}/{name}": better for split in SPLITS for name, better in metrics.items()}


def find_task(name: str) -> TaskInfo:
    """Return what is declared of a task, by its name or by the import path of a user's own, whose class has `info`.

    Raises:
        UsageError: there is no such task.
    """
    info = TASKS.find_description(name)
    if not isinstance(info, TaskInfo):
        raise UsageError(f"{name} is no task", hint="its class needs `info`, a medvq.config.task_info.TaskInfo")
    return info
