"""Optional packages: whether they are installed, and which extra of medvq installs each.

A quantizer, a loader or a single-process run needs none of them. Code that needs one calls `require` before it
imports it, as early as it can.
"""

from __future__ import annotations

from importlib.util import find_spec

from medvq.errors import MissingError

EXTRAS = {
    "ray": "ray",
    "submitit": "slurm",
    "sklearn": "probe",
    "tensorboard": "tensorboard",
    "torchvision": "vision",
}
"""The extra in medvq's package metadata that installs each optional module."""


def is_installed(module: str) -> bool:
    """Return whether a top-level module can be imported, without importing it."""
    return find_spec(module) is not None


def install_command(module: str) -> str:
    """Return the command that installs a top-level module."""
    return f"pip install 'medvq[{EXTRAS[module]}]'" if module in EXTRAS else f"pip install {module}"


def require(module: str, purpose: str, *, where: str | None = None, otherwise: str = "") -> None:
    """Raise an error if an optional package is not installed.

    Args:
        module: top-level module, such as `sklearn`.
        purpose: what it is needed for, for the message.
        where: the job, file or option that asks for it.
        otherwise: a way to go on without the package, for the hint.

    Raises:
        MissingError: the module is not installed; the hint says how to install it.
    """
    if not is_installed(module):
        hint = ", or ".join(filter(None, [install_command(module), otherwise]))
        raise MissingError(f"{module} is not installed; it is needed for {purpose}", where=where, hint=hint)
