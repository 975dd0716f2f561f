"""A task that uses the models of two other runs."""

import torch
import torch.nn.functional as F

from medvq.config.settings import Objective
from medvq.config.task_info import CLASSIFICATION, TaskInfo, per_split
from medvq.train.tasks.classify.task import Classify


class AgreementObjective(Objective):
    """What is minimised."""

    weight: float = 0.5
    """Weight of the distance to the teacher's probabilities."""
    reconstruct_every: int = 0
    """Never."""


class Agree(Classify):
    """Cross-entropy, and the distance to the answers of another classifier for images that a third run has cleaned."""

    info = TaskInfo(
        name="agree",
        revision=1,
        objective=AgreementObjective,
        metrics=per_split({"loss": "min", **CLASSIFICATION}),
        select="val/accuracy",
        roles={"cleaner": "an autoencoder", "teacher": "a classifier"},
        requires=("cleaner", "teacher"),
        labels=True,
        head=True,
    )

    def forward(self, batch, draws, epoch):
        """Losses of one step."""
        losses = super().forward(batch, draws, epoch)
        cleaner, teacher = self.needs["cleaner"], self.needs["teacher"]
        with torch.no_grad():
            unit = self.pixels.unit(batch.x, batch.part)
            clean = cleaner.unit(cleaner.model.reconstruct(cleaner.normalize(unit)))
            target = teacher.model(teacher.normalize(clean)).softmax(1)
        distance = F.mse_loss(self.model(batch.x).softmax(1), target)
        return {**losses, "loss": losses["loss"] + self.objective.weight * distance, "distance": distance}
