"""Tasks by name; what a study may say about them is `medvq.config.tasks.TASKS`."""

from __future__ import annotations

from medvq.errors import UsageError
from medvq.registry import import_object
from medvq.train.tasks.autoencode.task import Autoencode
from medvq.train.tasks.base import Task
from medvq.train.tasks.classify.task import Classify
from medvq.train.tasks.probe.task import Probe

TASK_CLASSES: dict[str, type[Task]] = {"autoencode": Autoencode, "classify": Classify, "probe": Probe}


def task_class(name: str) -> type[Task]:
    """The class of a task by its name, or by the import path of a user's own.

    Raises:
        UsageError: it is no task.
    """
    if name in TASK_CLASSES:
        return TASK_CLASSES[name]
    found: type[Task] = import_object(name, "task")
    if not issubclass(found, Task):
        raise UsageError(f"{name} is no task", hint="derive it from medvq.train.tasks.base.Task")
    return found
