"""The one place that imports torchvision.

Its wheels are built for CUDA; beside a CPU build of torch their extension does not load, and the import fails because
two operators that it wants to describe do not exist. Nothing here uses those operators.
"""

from __future__ import annotations

import contextlib
from types import ModuleType

import torch


def functional() -> ModuleType:
    """`torchvision.transforms.v2.functional`; tensors in, tensors out."""
    if torch.version.cuda is None:
        for name in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):  # defined already
                torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
    from torchvision.transforms.v2 import functional

    module: ModuleType = functional
    return module
