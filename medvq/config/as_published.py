"""The mistakes of papers that a job can switch on by `as_published`, off by default, to see what they did."""

from __future__ import annotations

from medvq.config.settings import ModelSettings
from medvq.config.task_info import OF_EVERY_TASK, TaskInfo

OF_DATA = {
    "mask_clip_normalized": (
        "masked images are blended with noise in units of pixels and clipped to [0, 1] after normalising, and new"
        " corners of a rotated mask keep 1 - mean colour, not 1"
    )
}


def switches(task: TaskInfo, model: ModelSettings) -> dict[str, str]:
    """What was published with this task and model, by name, each in a line."""
    return {**OF_EVERY_TASK, **OF_DATA, **task.as_published, **model.as_published}
