"""What a study may ask of the task `autoencode`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medvq.config.settings import Objective
from medvq.config.task_info import INIT, Better, TaskInfo, per_split


class AutoencodeObjective(Objective):
    """What autoencoding minimises: MSE of every active level's reconstruction plus the losses of its code."""

    stagger: int = Field(default=0, ge=0)
    """Epochs after which the next level of a stacked model joins; 0 trains all levels from the start."""
    reconstruct: Literal["recon_all", "recon_level"] = Field(default="recon_all", json_schema_extra={"neutral": True})
    """`recon_all` decodes every level to pixels; `recon_level` to its own input, which is detached."""
    foreground: Annotated[float, Field(ge=0, lt=1)] | Literal["mask"] | None = Field(
        default=None, json_schema_extra={"neutral": True}
    )
    """Also measure SSIM inside the foreground: pixels whose mean over channels, in [0, 1], is above this; or `mask`,
    inside the dataset's masks, over the held-out images that have one."""

    @property
    def reads_masks(self) -> bool:
        """Whether held-out images are measured with their masks."""
        return self.foreground == "mask"


OF_CODES: dict[str, Better] = {"perplexity": "max", "usage": "max", "top10": "min"}
"""Metrics of models with codebooks."""

AUTOENCODE = TaskInfo(
    name="autoencode",
    revision=1,
    objective=AutoencodeObjective,
    metrics=per_split({"loss": "min", "mse": "min", "psnr": "max"}),
    optional=per_split({**OF_CODES, "ssim": "max", "ssim_foreground": "max", "ssim_own_range": "max"}),
    select="val/mse",
    roles=INIT,
    as_published={"ssim_own_range": "also give ssim_own_range: SSIM with each image's own max - min as range"},
)
