"""Objective and metrics of the task `autoencode`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medvq.config.settings import Objective
from medvq.config.task_info import INIT, Better, TaskInfo, per_split


class AutoencodeObjective(Objective):
    """Objective of autoencoding: reconstruction MSE plus penalty of the code, summed over the active levels."""

    stagger: int = Field(default=0, ge=0)
    """Number of epochs after which the next level of a stacked model becomes active; with 0 all levels are active from
    the start. The stacked VQ-VAE was published with 5."""
    reconstruct: Literal["recon_all", "recon_level"] = Field(default="recon_all", json_schema_extra={"neutral": True})
    """Target of each level: the image for `recon_all`; the input of the level, detached, for `recon_level`."""
    foreground: Annotated[float, Field(ge=0, lt=1)] | Literal["mask"] | None = Field(
        default=None, json_schema_extra={"neutral": True}
    )
    """Also measure SSIM over the foreground. A number in [0, 1) is a threshold: a pixel is foreground if its mean over
    channels, in [0, 1], is larger. `mask` takes the masks of held-out images; images without a mask are left out."""

    @property
    def reads_masks(self) -> bool:
        """Whether held-out images are measured inside their masks."""
        return self.foreground == "mask"


CODEBOOK_METRICS: dict[str, Better] = {"perplexity": "max", "usage": "max", "top10": "min"}
"""Metrics of models with codebooks."""

AUTOENCODE = TaskInfo(
    name="autoencode",
    revision=1,
    objective=AutoencodeObjective,
    metrics=per_split({"loss": "min", "mse": "min", "psnr": "max"}),
    optional=per_split({**CODEBOOK_METRICS, "ssim": "max", "ssim_foreground": "max", "ssim_own_range": "max"}),
    select="val/mse",
    roles=INIT,
    as_published={"ssim_own_range": "also report ssim_own_range: SSIM with each image's own max - min as data range"},
)
