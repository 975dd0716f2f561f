"""The task `classify`: minimise the cross-entropy of class logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvq.errors import UsageError
from medvq.metrics import classification as scores
from medvq.models.autoencoder import Autoencoder, Encoded
from medvq.models.draws import Draws
from medvq.runs.artifacts.predictions import classifier_columns
from medvq.train.tasks.base import Batch, Evaluated, Task, TaskContext
from medvq.train.tasks.classify.info import CLASSIFY, ClassifyObjective


class Classify(Task):
    """Minimises L = CE(logits, y) + w · MSE(code(x), code(x_m)) + MSE(x, x̂) + penalty.

    x_m is x with noise outside its mask; this term needs data with masks. The last two terms, the reconstruction from
    the deepest code and the penalty of this code, are part of the loss in every N-th epoch only. The model is an
    autoencoder with a `head` for the deepest code, or any module that returns logits for images. For modules that are
    not autoencoders the loss is the cross-entropy.
    """

    info = CLASSIFY
    objective: ClassifyObjective

    def __init__(self, model: nn.Module, context: TaskContext) -> None:
        """Create the task.

        Raises:
            UsageError: the model is an autoencoder without a head, or the objective requires an autoencoder and the
                model is none.
        """
        self.is_autoencoder = isinstance(model, Autoencoder)
        if isinstance(model, Autoencoder) and not model.has_head:
            raise UsageError(
                f"a {type(model).__name__} has no classifier head", hint="use a model with a head, such as svqvae"
            )
        if not self.is_autoencoder and (context.objective.reconstruct_every or context.objective.trains_head_alone):
            raise UsageError(f"a {type(model).__name__} has no codes: reconstruct_every and freeze do not apply")
        super().__init__(model, context)

    @property
    def frozen(self) -> bool:
        """Whether only the head is trained."""
        return self.objective.trains_head_alone

    def train(self, mode: bool = True) -> Self:
        """Set the training mode. A model whose encoder is frozen stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self._net.eval()
        return self

    def stage(self, epoch: int) -> int:
        """Return 1 for epochs with a reconstruction loss, else 0."""
        every = self.objective.reconstruct_every
        return int(every > 0 and (epoch + 1) % every == 0)

    def forward(self, batch: Batch, draws: Draws, epoch: int) -> dict[str, Tensor]:
        """Compute the total loss and its terms in this epoch."""
        if not self.is_autoencoder:
            cross_entropy = F.cross_entropy(self._loss_inputs(self._logits(batch.x)), batch.label)
            return {"loss": cross_entropy, "cross_entropy": cross_entropy}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            found: Encoded = self._net.encode(batch.x, draws=draws)
        logits = self._net.head(found.code).float()
        cross_entropy = F.cross_entropy(self._loss_inputs(logits), batch.label)
        losses = {"loss": cross_entropy, "cross_entropy": cross_entropy}
        if self.objective.feature and batch.masked is not None and not self.frozen:
            losses["feature"] = F.mse_loss(found.code.float(), self._masked_code(batch.masked, draws))
            losses["loss"] = losses["loss"] + self.objective.feature * losses["feature"]
        if self.stage(epoch):
            losses["reconstruction"] = F.mse_loss(self._net.decode(found.code).float(), batch.x)
            losses["loss"] = losses["loss"] + losses["reconstruction"] + found.penalty(-1)
        return losses

    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return label, cross-entropy and class probabilities of each image."""
        logits = self._logits(batch.x)
        rows = {
            "label": batch.label,
            "loss": F.cross_entropy(self._loss_inputs(logits), batch.label, reduction="none"),
            "probability": logits.softmax(1),
        }
        return rows, {}

    def metrics(self, found: Evaluated) -> dict[str, float]:
        """Return mean cross-entropy, accuracy, balanced accuracy, macro-F1 and AUC over the split."""
        label, probability = found.rows["label"], found.rows["probability"]
        return {
            "loss": float(found.rows["loss"].astype("float64").mean()),
            **scores.summary(label, probability.argmax(1), probability),
        }

    def prediction_columns(self, found: Evaluated) -> dict[str, Any]:
        """Return the columns label, predicted class, class probabilities and loss."""
        shares = classifier_columns(found.rows["probability"], found.classes)
        return {"label": found.rows["label"], **shares, "loss": found.rows["loss"]}

    def write_artifacts(self, folder: Path, found: Evaluated, sample: Batch) -> None:
        """Write the confusion matrix and the metrics of each class."""
        from medvq.runs.artifacts.classified import write_classified

        write_classified(folder, found.rows["label"], found.rows["probability"], found.classes)

    @property
    def _net(self) -> Autoencoder:
        """The model, which must be an autoencoder with a head."""
        return cast("Autoencoder", self.model)

    def _logits(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) float32 for images x (B, C, H, W).

        Raises:
            UsageError: the model returns something else.
        """
        if self.is_autoencoder:
            return self._net.head(self._net.encode(x).code).float()
        logits, wanted = self.model(x), (len(x), len(self.classes))
        if tuple(getattr(logits, "shape", ())) != wanted:
            given = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise UsageError(
                f"{type(self.model).__name__} returned {given} for {len(x)} images and {len(self.classes)} classes",
                hint=f"its forward must return logits (B, classes), here {wanted}",
            )
        return cast("Tensor", logits).float()

    def _loss_inputs(self, logits: Tensor) -> Tensor:
        """Return what cross-entropy is computed on: the logits, or their softmax under `softmax_in_head`.

        With the softmax, the loss for 5 classes cannot fall below −ln(e / (e + 4)) = 0.905.
        """
        return logits.softmax(1) if "softmax_in_head" in self.as_published else logits

    def _masked_code(self, masked: Tensor, draws: Draws) -> Tensor:
        """Return the deepest code (B, C, h, w) of masked images, without gradients and without codebook updates."""
        with torch.no_grad():
            code: Tensor = self._net.encode(masked, draws=draws).code
        return code.float()
