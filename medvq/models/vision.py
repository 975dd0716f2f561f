"""Import torchvision beside any build of torch."""

from __future__ import annotations

import contextlib
import importlib
from types import ModuleType

from medvq.extras import require

_OPERATORS = ("nms", "qnms")
"""Operators of torchvision's compiled extension that its Python code describes while it is imported."""


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Import torchvision, or one of its modules such as `torchvision.transforms.v2.functional`.

    The wheels of torchvision on PyPI are built for CUDA. With a CPU build of torch their compiled extension does not
    load, and the import fails because two operators of the extension are not defined. This function defines them
    first, without an implementation, so that everything written in Python works: transforms, datasets and models.
    `torchvision.ops.nms` and `torchvision.io` do not work with a CPU build of torch.

    Every process must call this function itself, because a definition holds for one process. It may be called again.

    Raises:
        MissingError: torchvision is not installed.

    Example:
        >>> F = import_torchvision("torchvision.transforms.v2.functional")
        >>> F.adjust_hue.__name__
        'adjust_hue'
    """
    require("torchvision", "operations on images and models of torchvision")
    import torch

    if torch.version.cuda is None:
        for name in _OPERATORS:
            with contextlib.suppress(RuntimeError):  # already defined
                torch.library.define(
                    f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
    return importlib.import_module(module)
