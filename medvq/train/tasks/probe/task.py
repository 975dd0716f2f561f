"""The task `probe`: fit a logistic regression and a nearest-neighbour classifier to frozen codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from medvq.errors import UsageError
from medvq.files import write_json
from medvq.metrics import classification as scores
from medvq.models.autoencoder import Autoencoder, VQModel
from medvq.models.draws import Draws
from medvq.runs.artifacts.predictions import classifier_columns
from medvq.train.tasks.base import Batch, Evaluated, Task, TaskContext
from medvq.train.tasks.probe.info import NEIGHBOURS, PROBE, ProbeObjective

Floats = NDArray[np.float64]


class Probe(Task):
    """Measures how well frozen codes separate classes.

    A linear classifier (Alain and Bengio 2016) and a nearest-neighbour classifier (Wu et al. 2018) are fitted to the
    codes of the training images, which are computed once. Features are standardised with the mean and standard
    deviation of the training images. C and the number of neighbours are those with the highest validation accuracy;
    the test split is measured once. The model is not trained and stays in evaluation mode.
    """

    info = PROBE
    model: Autoencoder
    objective: ProbeObjective

    def __init__(self, model: nn.Module, context: TaskContext) -> None:
        """Create the task.

        Raises:
            UsageError: the model is not an `Autoencoder`, or has no codebooks and `features` is `histogram`.
        """
        if not isinstance(model, Autoencoder):
            raise UsageError(f"a {type(model).__name__} has no codes to probe", hint="derive it from Autoencoder")
        if context.objective.features == "histogram" and not isinstance(model, VQModel):
            raise UsageError(
                f"a {type(model).__name__} has no codebooks", hint="set objective.features to flat or pooled"
            )
        super().__init__(model, context)
        self._linear: Any = None
        self._neighbours: Any = None

    def forward(self, batch: Batch, draws: Draws, epoch: int) -> dict[str, Tensor]:
        """Raise NotImplementedError: a probe has no training steps."""
        raise NotImplementedError

    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return label and features (B, F) of each image."""
        found = self.model.encode(batch.x)
        match self.objective.features:
            case "flat":
                feature = found.code.float().flatten(1)
            case "pooled":
                feature = found.code.float().mean((2, 3))
            case "histogram":
                feature = torch.cat([self._histogram(n, i) for n, i in found.indices.items()], dim=1)
        return {"label": batch.label, "feature": feature}, {}

    def fit(self, train: Evaluated, val: Evaluated) -> None:
        """Fit both probes to the training images and choose their hyper-parameters by validation accuracy.

        Every rank does this with the same result.

        Raises:
            UsageError: the training images have fewer than two classes.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x, y = train.rows["feature"].astype(np.float64), train.rows["label"]
        if len(np.unique(y)) < 2:
            raise UsageError("a probe needs training images of at least two classes", hint="increase data.subset")
        linear = [LogisticRegression(C=c, max_iter=2000) for c in self.objective.strengths]
        possible = [n for n in self.objective.neighbours if n <= len(y)] or [1]
        near = [KNeighborsClassifier(n, weights="distance") for n in possible]
        self._linear = self._best([make_pipeline(StandardScaler(), m).fit(x, y) for m in linear], val)
        self._neighbours = self._best([make_pipeline(StandardScaler(), m).fit(x, y) for m in near], val)

    def metrics(self, found: Evaluated) -> dict[str, float]:
        """Return the metrics of the logistic regression, and with the prefix `knn_` those of the neighbours."""
        label = found.rows["label"]
        probabilities = {
            "": self._probability(self._linear, found),
            NEIGHBOURS: self._probability(self._neighbours, found),
        }
        return {
            f"{prefix}{name}": value
            for prefix, probability in probabilities.items()
            for name, value in scores.summary(label, probability.argmax(1), probability).items()
        }

    def prediction_columns(self, found: Evaluated) -> dict[str, Any]:
        """Return the label, and the predictions and probabilities of both probes."""
        linear = classifier_columns(self._probability(self._linear, found), found.classes)
        near = classifier_columns(self._probability(self._neighbours, found), found.classes, NEIGHBOURS)
        return {"label": found.rows["label"], **linear, **near}

    def write_artifacts(self, folder: Path, found: Evaluated, sample: Batch) -> None:
        """Write confusion matrix, class metrics and weights (for unscaled features) of the logistic regression."""
        from medvq.runs.artifacts.classified import write_classified

        write_classified(folder, found.rows["label"], self._probability(self._linear, found), found.classes)
        scaler, model = (step for _, step in self._linear.steps)
        weight = model.coef_ / scaler.scale_
        record = {
            "features": self.objective.features,
            "classes": [found.classes[k] for k in model.classes_],
            "C": model.C,
            "neighbours": self._neighbours.steps[-1][1].n_neighbors,
            "weight": weight.tolist(),
            "bias": (model.intercept_ - weight @ scaler.mean_).tolist(),
        }
        write_json(folder / "probe.json", record)

    def _histogram(self, name: str, indices: Tensor) -> Tensor:
        """Return the share of positions at which each code is chosen, (B, K), for indices (B, h, w) of a codebook."""
        size = cast("VQModel", self.model).quantizers()[name].codebook_size
        counts = [torch.bincount(i.flatten(), minlength=size) for i in indices]
        return F.normalize(torch.stack(counts).float(), p=1, dim=1)

    def _best(self, fitted: Sequence[Any], val: Evaluated) -> Any:
        """Return the classifier with the highest validation accuracy; the first one among equals."""
        label = val.rows["label"]
        accuracy = [float((self._probability(m, val).argmax(1) == label).mean()) for m in fitted]
        return fitted[int(np.argmax(accuracy))]

    def _probability(self, fitted: Any, found: Evaluated) -> Floats:
        """Return class probabilities (N, classes); 0 for classes without training images."""
        out = np.zeros((len(found.keys), len(self.classes)))
        out[:, fitted.classes_] = fitted.predict_proba(found.rows["feature"].astype(np.float64))
        return out
