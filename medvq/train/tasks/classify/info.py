"""What a study may ask of the task `classify`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from medvq.config.settings import Objective
from medvq.config.task_info import CLASSIFICATION, INIT, TaskInfo, per_split


class ClassifyObjective(Objective):
    """What classification minimises: cross-entropy on logits, and on some epochs the reconstruction too."""

    reconstruct_every: int = Field(default=0, ge=0)
    """Every N-th epoch adds the MSE of the deepest reconstruction and the losses of its code; 0 never does. The
    stacked VQ-VAE was published with 2."""
    feature: float = Field(default=1.0, ge=0, json_schema_extra={"neutral": True})
    """Weight of MSE(code(x), code(masked x)), which is added if the data are read with masks."""
    freeze: Literal["none", "encoder"] = Field(default="none", json_schema_extra={"neutral": True})
    """`encoder` trains the head alone: everything else stays as it is, in evaluation mode, with its codebooks and
    norms."""

    @property
    def trains_head_alone(self) -> bool:
        """Whether only the classifier head learns."""
        return self.freeze == "encoder"

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if self.freeze == "encoder" and self.reconstruct_every:
            raise ValueError("a frozen encoder has nothing to learn from reconstruct_every")
        return self


CLASSIFY = TaskInfo(
    name="classify",
    revision=1,
    objective=ClassifyObjective,
    metrics=per_split({"loss": "min", **CLASSIFICATION}),
    select="val/accuracy",
    roles=INIT,
    labels=True,
    head=True,
    as_published={"softmax_in_head": "cross-entropy takes the softmax of the logits as if it were logits"},
)
