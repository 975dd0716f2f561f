"""Provenance of a run: commit and uncommitted changes of the code, versions of packages and Python."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import medvq

PACKAGES = ("torch", "ray", "numpy", "pillow", "pyarrow", "pydantic", "safetensors")
"""Packages whose versions are recorded."""
LONGEST_DIFF = 1_000_000
"""Number of characters of a diff that are kept."""


@functools.cache
def provenance() -> dict[str, Any]:
    """Return the versions and, in a git checkout, the commit and the diff of uncommitted changes."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "medvq": medvq.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "diff": (_git("diff", "HEAD") or "")[:LONGEST_DIFF],
        "packages": versions,
        "python": platform.python_version(),
    }


def _git(*command: str) -> str | None:
    """Return the output of git in medvq's checkout; None outside a checkout, or if git is absent or fails."""
    top = Path(medvq.__file__).resolve().parent.parent
    if not (top / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(top), *command], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
