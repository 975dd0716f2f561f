"""Autoencoding: every active level's reconstruction comes close to the image, and its codes to the encoder's output."""

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
from medvq.train.tasks.autoencode.info import AUTOENCODE, OF_CODES, AutoencodeObjective
from medvq.train.tasks.base import Array, Batch, Evaluated, Task, TaskContext, image_rows

COUNTS = "codes/"


class Autoencode(Task):
    """L = Σ over active levels of MSE(target_i, x̂_i) + penalty_i, means over elements.

    penalty_i is the weighted loss of the level's code, such as β · commitment_i. The target is the image, or under
    `recon_level` the level's own input, detached.
    """

    info = AUTOENCODE
    model: Autoencoder
    objective: AutoencodeObjective

    def __init__(self, model: nn.Module, context: TaskContext) -> None:
        """Take an autoencoder.

        Raises:
            UsageError: the model is none.
        """
        if not isinstance(model, Autoencoder):
            raise UsageError(
                f"a {type(model).__name__} does not encode and decode images",
                hint="derive it from medvq.models.autoencoder.Autoencoder, or from VQModel if it has codebooks",
            )
        super().__init__(model, context)

    @property
    def target(self) -> Target:
        """What each level gives back."""
        return "inputs" if self.objective.reconstruct == "recon_level" else "pixels"

    def stage(self, epoch: int) -> int:
        """How many levels train in this epoch."""
        if self.objective.stagger == 0:
            return self.model.levels
        return min(epoch // self.objective.stagger + 1, self.model.levels)

    def forward(self, batch: Batch, draws: Draws, epoch: int) -> dict[str, Tensor]:
        """The summed loss, then each level's parts."""
        if "codebook_update_per_encode" in self.as_published:
            # One encoding for each level's loss, as published: the first level's codebooks learn most often.
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
        """Errors and likeness of each image, and how often each code is used."""
        found = self.model(batch.x, target=self.target)
        truth = self.pixels.unit(batch.x, batch.part)
        back = self.pixels.unit(self._deepest(found), batch.part)
        levels = [squared_error(i.float(), t.float()) for i, t in zip(found.images, found.targets, strict=True)]
        mse = squared_error(back, truth)
        rows = {"loss": torch.stack(levels).sum(0), "mse": mse, "psnr": psnr(mse, 1.0)}
        if min(truth.shape[-2:]) >= WINDOW:
            rows["ssim"] = ssim(back, truth, 1.0)
            inside = self._foreground(batch, truth)
            if inside is not None:
                rows["ssim_foreground"] = ssim(back, truth, 1.0, inside)
            if "ssim_own_range" in self.as_published:
                rows["ssim_own_range"] = ssim(back, truth, own_range(truth))
        totals = {
            f"{COUNTS}{name}": code_counts(found.indices[name], quantizer.codebook_size)
            for name, quantizer in self._quantizers().items()
        }
        return rows, totals

    def metrics(self, found: Evaluated) -> dict[str, float]:
        """loss: summed MSE of all levels, normalized units; the others of the deepest level's image, in [0, 1].

        mse; psnr, the mean of PSNRs; ssim over whole images, ssim_foreground inside the foreground of those that have
        one; of models with codebooks perplexity, usage and the share of the ten most frequent codes (top10) over the
        whole split, averaged over codebooks.
        """
        means = {name: float(np.nanmean(row.astype("float64"))) for name, row in found.rows.items() if _any(row)}
        use = _use(found).values()
        of_codes = {name: fmean(getattr(u, name) for u in use) for name in OF_CODES} if use else {}
        return {**means, **of_codes}

    def write_artifacts(self, folder: Path, found: Evaluated, sample: Batch) -> None:
        """Write reconstructions of the first images from every level; with codebooks, their use and code maps too."""
        from medvq.runs.artifacts.figures import reconstructions

        with torch.inference_mode():
            seen = self.model(sample.x)
        truth = image_rows(self.pixels.unit(sample.x, sample.part))
        images = [image_rows(self.pixels.unit(image, sample.part)) for image in seen.images]
        reconstructions(truth, [(f"level {i}", x) for i, x in enumerate(images)], folder / "reconstructions.png")
        if seen.indices:
            self._write_codebooks(folder, _use(found), seen, truth, images[-1])

    def _write_codebooks(
        self, folder: Path, use: dict[str, CodebookUse], seen: Reconstructions, truth: Array, last: Array
    ) -> None:
        """Write how often each code is used, the codebooks, and the codes of images (B, H, W, C)."""
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
        """The quantizers by name; empty if the model has no codebooks."""
        return self.model.quantizers() if isinstance(self.model, VQModel) else {}

    def _foreground(self, batch: Batch, truth: Tensor) -> Tensor | None:
        """(B, 1, H, W) bool, of true images (B, C, H, W) in [0, 1]."""
        match self.objective.foreground:
            case None:
                return None
            case "mask":
                return batch.inside
            case above:
                return truth.mean(1, keepdim=True) > above

    def _deepest(self, found: Reconstructions) -> Tensor:
        """The image (B, C, H, W) from the deepest code."""
        return found.images[-1] if self.target == "pixels" else self.model.decode(found.code)


def _any(row: np.ndarray[Any, Any]) -> bool:
    return bool(np.isfinite(row).any())


def _use(found: Evaluated) -> dict[str, CodebookUse]:
    """How each codebook was used over the split."""
    counts = {k.removeprefix(COUNTS): v for k, v in found.totals.items() if k.startswith(COUNTS)}
    return {name: codebook_use(torch.from_numpy(v)) for name, v in counts.items()}
