"""Where the numbers of a run came from: code, its uncommitted changes, packages, Python."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import medvq

PACKAGES = ("torch", "ray", "numpy", "pillow", "pyarrow", "pydantic", "safetensors")
LONGEST_DIFF = 1_000_000


@functools.cache
def provenance() -> dict[str, Any]:
    """Versions and, in a git checkout, the commit and the diff of a dirty tree."""
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
    """The output of git in medvq's own checkout; None where it is installed or git is not there."""
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
