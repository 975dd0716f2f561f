"""What a study may ask of the task `probe`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medvq.config.settings import Objective
from medvq.config.task_info import CLASSIFICATION, INIT, TaskInfo, per_split


class ProbeObjective(Objective):
    """How frozen codes are probed: the features, and what is tried on validation."""

    features: Literal["flat", "pooled", "histogram"] = "flat"
    """Of the deepest code: all its numbers, their mean over positions, or how often each code was chosen."""
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.001, 0.01, 0.1, 1.0, 10.0), min_length=1)
    """Inverse L2 strengths C of the logistic regression; validation picks one."""
    neighbours: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(1, 5, 11, 21), min_length=1)
    """Numbers of nearest neighbours; validation picks one."""


NEIGHBOURS = "knn_"
"""Prefix of the metrics and prediction columns of the nearest neighbours."""

PROBE = TaskInfo(
    name="probe",
    revision=1,
    objective=ProbeObjective,
    metrics=per_split({**CLASSIFICATION, **{f"{NEIGHBOURS}{name}": better for name, better in CLASSIFICATION.items()}}),
    select="val/accuracy",
    roles=INIT,
    requires=("init",),
    labels=True,
    fits=True,
    packages=("sklearn",),
)
