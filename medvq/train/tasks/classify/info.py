"""Objective and metrics of the task `classify`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from medvq.config.settings import Objective
from medvq.config.task_info import CLASSIFICATION, INIT, TaskInfo, per_split


class ClassifyObjective(Objective):
    """Objective of classification: cross-entropy on logits; optionally feature and reconstruction losses."""

    reconstruct_every: int = Field(default=0, ge=0)
    """In every N-th epoch, add the MSE of the reconstruction from the deepest code and the penalty of this code; 0 for
    never. The stacked VQ-VAE was published with 2."""
    feature: float = Field(default=1.0, ge=0, json_schema_extra={"neutral": True})
    """Weight of MSE(code(x), code(x_m)), where x_m is x with noise outside the mask. It requires data with masks."""
    freeze: Literal["none", "encoder"] = Field(default="none", json_schema_extra={"neutral": True})
    """`encoder` trains only the classifier head. Everything else stays in evaluation mode, including codebooks and
    BatchNorm statistics."""

    @property
    def trains_head_alone(self) -> bool:
        """Whether only the classifier head is trained."""
        return self.freeze == "encoder"

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if self.freeze == "encoder" and self.reconstruct_every:
            raise ValueError("a frozen encoder cannot be trained by reconstruct_every")
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
    as_published={"softmax_in_head": "cross-entropy is computed on the softmax of the logits, as if it were logits"},
)
