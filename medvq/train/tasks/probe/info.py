"""Objective and metrics of the task `probe`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medvq.config.settings import Objective
from medvq.config.task_info import CLASSIFICATION, INIT, TaskInfo, per_split


class ProbeObjective(Objective):
    """Features of the probes, and hyper-parameters to choose from on the validation split."""

    features: Literal["flat", "pooled", "histogram"] = "flat"
    """Features of the deepest code: `flat` takes all numbers, `pooled` their mean over positions. `histogram` takes
    the share of positions at which each code is chosen, for every codebook of the model."""
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.001, 0.01, 0.1, 1.0, 10.0), min_length=1)
    """Candidates for C, the inverse strength of the L2 penalty of the logistic regression."""
    neighbours: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(1, 5, 11, 21), min_length=1)
    """Candidates for the number of nearest neighbours."""


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
