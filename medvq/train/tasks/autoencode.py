"""Autoencoding: every active level's reconstruction comes close to the image, and its codes to the encoder's output."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

from medvq.config.tasks import AutoencodeObjective
from medvq.models.base import VQModel
from medvq.models.draws import Draws
from medvq.models.meter import CodebookUse, codebook_use
from medvq.runs.atomic import write_json
from medvq.train.tasks.base import Batch, Evaluated, Task, image_rows, per_sample

COUNTS = "codes/"


class Autoencode(Task):
    """L = Σ over active levels of MSE(x, x̂_i) + β · commitment_i, means over elements (SPEC §1, recon_all)."""

    model: VQModel
    objective: AutoencodeObjective

    def stage(self, epoch: int) -> int:
        """How many levels train in this epoch."""
        if self.objective.stagger == 0:
            return self.model.levels
        return min(epoch // self.objective.stagger + 1, self.model.levels)

    def forward(self, batch: Batch, draws: Draws, epoch: int) -> dict[str, Tensor]:
        """The summed loss, then each level's parts."""
        found = self.model(batch.x, levels=self.stage(epoch), draws=draws)
        parts: dict[str, Tensor] = {}
        total = batch.x.new_zeros(())
        for i, (image, target, penalty) in enumerate(zip(found.images, found.targets, found.penalties, strict=True)):
            parts[f"reconstruction/level{i}"] = F.mse_loss(image.float(), target.float())
            total = total + parts[f"reconstruction/level{i}"] + penalty
        return {"loss": total, **parts, **found.losses}

    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Squared errors per image, and how often each code is used."""
        found = self.model(batch.x)
        truth = self.pixels.unit(batch.x, batch.part)
        levels = [per_sample((image.float() - batch.x) ** 2) for image in found.images]
        mse = per_sample((self.pixels.unit(found.images[-1], batch.part) - truth) ** 2)
        rows = {"loss": torch.stack(levels).sum(0), "mse": mse, "psnr": -10 * mse.clamp_min(1e-10).log10()}
        totals = {
            f"{COUNTS}{name}": torch.bincount(found.indices[name].flatten(), minlength=quantizer.codebook_size)
            for name, quantizer in self.model.quantizers().items()
        }
        return rows, totals

    def metrics(self, found: Evaluated) -> dict[str, float]:
        """loss: summed MSE of all levels, normalized units; mse and psnr (mean of PSNRs): deepest level, [0, 1].

        perplexity and usage: over the whole split, averaged over codebooks.
        """
        means = {name: float(found.rows[name].astype("float64").mean()) for name in ("loss", "mse", "psnr")}
        use = _use(found).values()
        return {**means, "perplexity": fmean(u.perplexity for u in use), "usage": fmean(u.usage for u in use)}

    def leave(self, folder: Path, found: Evaluated, sample: Batch) -> None:
        """Errors of every image, reconstructions of the first ones from every level, and the use of each codebook."""
        from medvq.runs.figures import reconstructions
        from medvq.runs.predictions import NAME, write_predictions

        write_predictions(folder / NAME, {"key": found.keys, **{n: found.rows[n] for n in ("loss", "mse", "psnr")}})

        use = {
            name: {"used": u.used, "of": len(u.counts), "perplexity": u.perplexity, "top10": u.top10}
            for name, u in _use(found).items()
        }
        write_json(folder / "codebooks.json", use)
        with torch.inference_mode():
            back = self.model(sample.x).images
        levels = [(f"level {i}", image_rows(self.pixels.unit(image, sample.part))) for i, image in enumerate(back)]
        reconstructions(image_rows(self.pixels.unit(sample.x, sample.part)), levels, folder / "reconstructions.png")


def _use(found: Evaluated) -> dict[str, CodebookUse]:
    """How each codebook was used over the split."""
    counts = {k.removeprefix(COUNTS): v for k, v in found.totals.items() if k.startswith(COUNTS)}
    return {name: codebook_use(torch.from_numpy(v)) for name, v in counts.items()}
