"""Tasks by name; what a study may say about them is `medvq.config.tasks.TASKS`."""

from __future__ import annotations

from medvq.train.tasks.autoencode import Autoencode
from medvq.train.tasks.base import Task
from medvq.train.tasks.classify import Classify

TASK_CLASSES: dict[str, type[Task]] = {"autoencode": Autoencode, "classify": Classify}
