"""The task `autoencode`: minimise the reconstruction error of every active level plus the penalties of the codes."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvq.errors import UsageError
from medvq.files import write_json
from medvq.metrics.codebook import CodebookUse, code_counts, codebook_use
from medvq.metrics.similarity import WINDOW, own_range, psnr, squared_error, ssim
from medvq.models.autoencoder import Autoencoder, Reconstructions, Target, VQModel
from medvq.models.draws import Draws
from medvq.models.quantize.base import Quantizer
from medvq.train.tasks.autoencode.info import AUTOENCODE, CODEBOOK_METRICS, AutoencodeObjective
from medvq.train.tasks.base import Array, Batch, Evaluated, Task, TaskContext, image_rows

COUNTS = "codes/"
"""Prefix of the totals that hold how often each code is chosen."""


class Autoencode(Task):
    """Minimises L = Σ_i MSE(target_i, x̂_i) + penalty_i over the active levels i; all terms are means over elements.

    x̂_i is the reconstruction from the code of level i, and penalty_i the weighted sum of the losses of this code, such
    as β · commitment_i. target_i is the image, or with `recon_level` the input of level i, detached.
    """

    info = AUTOENCODE
    model: Autoencoder
    objective: AutoencodeObjective

    def __init__(self, model: nn.Module, context: TaskContext) -> None:
        """Create the task.

        Raises:
            UsageError: the model is not an `Autoencoder`.
        """
        if not isinstance(model, Autoencoder):
            raise UsageError(
                f"a {type(model).__name__} does not encode and decode images",
                hint="derive it from medvq.models.autoencoder.Autoencoder, or from VQModel if it has codebooks",
            )
        super().__init__(model, context)

    @property
    def target(self) -> Target:
        """What each level reconstructs."""
        return "inputs" if self.objective.reconstruct == "recon_level" else "pixels"

    def stage(self, epoch: int) -> int:
        """Return the number of active levels in an epoch."""
        if self.objective.stagger == 0:
            return self.model.levels
        return min(epoch // self.objective.stagger + 1, self.model.levels)

    def forward(self, batch: Batch, draws: Draws, epoch: int) -> dict[str, Tensor]:
        """Compute the total loss, the MSE of each level, and the losses of the codes."""
        if "codebook_update_per_encode" in self.as_published:
            # The published code encodes the images once per active level, which updates the lower codebooks more often.
            for levels in range(1, self.stage(epoch)):
                self.model.encode(batch.x, levels=levels, draws=draws)
        found = self.model(batch.x, levels=self.stage(epoch), draws=draws, target=self.target)
        parts: dict[str, Tensor] = {}
        total = batch.x.new_zeros(())
        for i, (image, target) in enumerate(zip(found.images, found.targets, strict=True)):
            parts[f"reconstruction/level{i}"] = F.mse_loss(image.float(), target.float())
            total = total + parts[f"reconstruction/level{i}"] + found.penalty(i)
        return {"loss": total, **parts, **found.losses}

    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Measure error and similarity of each image, and how often each code is chosen."""
        found = self.model(batch.x, target=self.target)
        truth = self.pixels.unit(batch.x, batch.part)
        output = self.pixels.unit(self._deepest_image(found), batch.part)
        levels = [squared_error(i.float(), t.float()) for i, t in zip(found.images, found.targets, strict=True)]
        mse = squared_error(output, truth)
        rows = {"loss": torch.stack(levels).sum(0), "mse": mse, "psnr": psnr(mse, 1.0)}
        if min(truth.shape[-2:]) >= WINDOW:
            rows["ssim"] = ssim(output, truth, 1.0)
            inside = self._foreground(batch, truth)
            if inside is not None:
                rows["ssim_foreground"] = ssim(output, truth, 1.0, inside)
            if "ssim_own_range" in self.as_published:
                rows["ssim_own_range"] = ssim(output, truth, own_range(truth))
        totals = {
            f"{COUNTS}{name}": code_counts(found.indices[name], quantizer.codebook_size)
            for name, quantizer in self._quantizers().items()
        }
        return rows, totals

    def metrics(self, found: Evaluated) -> dict[str, float]:
        """Return the metrics of one split.

        `loss` is the MSE summed over all levels, in normalised units. All other metrics compare the reconstruction
        from the deepest code with the image, both in [0, 1]: `mse`, `psnr` (mean of the PSNRs of images, in dB),
        `ssim`, and `ssim_foreground` over the images that have a foreground. Models with codebooks add `perplexity`,
        `usage` (share of codes in use) and `top10` (share of positions with one of the ten most frequent codes): over
        the whole split, averaged over codebooks.
        """
        means = {name: float(np.nanmean(row.astype("float64"))) for name, row in found.rows.items() if _has_finite(row)}
        use = _codebook_use(found).values()
        codebook_metrics = {name: fmean(getattr(u, name) for u in use) for name in CODEBOOK_METRICS} if use else {}
        return {**means, **codebook_metrics}

    def write_artifacts(self, folder: Path, found: Evaluated, sample: Batch) -> None:
        """Write reconstructions of `sample` from every level; with codebooks also code usage and code maps."""
        from medvq.runs.artifacts.figures import reconstructions

        with torch.inference_mode():
            seen = self.model(sample.x)
        truth = image_rows(self.pixels.unit(sample.x, sample.part))
        images = [image_rows(self.pixels.unit(image, sample.part)) for image in seen.images]
        reconstructions(truth, [(f"level {i}", x) for i, x in enumerate(images)], folder / "reconstructions.png")
        if seen.indices:
            self._write_codebooks(folder, _codebook_use(found), seen, truth, images[-1])

    def _write_codebooks(
        self, folder: Path, use: dict[str, CodebookUse], seen: Reconstructions, truth: Array, last: Array
    ) -> None:
        """Write how often each code is used, the codes, and the code maps of images `truth` and `last` (B, H, W, C)."""
        from medvq.runs.artifacts.codebooks import code_maps, codebook_picture

        record = {
            name: {
                "used": u.used,
                "of": len(u.counts),
                "perplexity": u.perplexity,
                "top10": u.top10,
                "counts": list(u.counts),
            }
            for name, u in use.items()
        }
        write_json(folder / "codebooks.json", record)
        tables = {name: q.table().detach().cpu().numpy() for name, q in self._quantizers().items()}
        codebook_picture({n: (tables[n], np.asarray(u.counts)) for n, u in use.items()}, folder / "codebooks.png")
        maps = {n: (i.cpu().numpy(), tables[n]) for n, i in seen.indices.items()}
        code_maps(truth, maps, last, folder / "codes.png")

    def _quantizers(self) -> dict[str, Quantizer]:
        """Return the quantizers by name; empty if the model has no codebooks."""
        return self.model.quantizers() if isinstance(self.model, VQModel) else {}

    def _foreground(self, batch: Batch, truth: Tensor) -> Tensor | None:
        """Return the foreground (B, 1, H, W) bool of images (B, C, H, W) in [0, 1]; None if it is not measured."""
        match self.objective.foreground:
            case None:
                return None
            case "mask":
                return batch.inside
            case threshold:
                return truth.mean(1, keepdim=True) > threshold

    def _deepest_image(self, found: Reconstructions) -> Tensor:
        """Return the images (B, C, H, W) decoded from the deepest code."""
        return found.images[-1] if self.target == "pixels" else self.model.decode(found.code)


def _has_finite(row: np.ndarray[Any, Any]) -> bool:
    """Return whether any value of `row` is finite."""
    return bool(np.isfinite(row).any())


def _codebook_use(found: Evaluated) -> dict[str, CodebookUse]:
    """Return the code usage of each codebook over the split."""
    counts = {k.removeprefix(COUNTS): v for k, v in found.totals.items() if k.startswith(COUNTS)}
    return {name: codebook_use(torch.from_numpy(v)) for name, v in counts.items()}
