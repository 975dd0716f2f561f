"""Mistakes of papers that a job can switch on with `as_published`, to see their effect; all are off by default."""

from __future__ import annotations

from medvq.config.settings import ModelSettings
from medvq.config.task_info import OF_EVERY_TASK, TaskInfo

OF_DATA = {
    "mask_clip_normalized": (
        "masked images are blended with unnormalized noise and clipped to [0, 1] after normalizing, and new"
        " corners of a rotated mask are 1 - mean colour, not 1"
    )
}


def switches(task: TaskInfo, model: ModelSettings) -> dict[str, str]:
    """Return the mistakes that can be switched on with this task and model: a line about each, by name."""
    return {**OF_EVERY_TASK, **OF_DATA, **task.as_published, **model.as_published}
