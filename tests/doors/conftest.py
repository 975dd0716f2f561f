"""A lab's folder: its package, and a database of scans that only its package can read."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent


def lay_package(folder: Path) -> None:
    """Copy the outside package into a folder."""
    shutil.copytree(HERE / "outside_lab", folder / "outside_lab", ignore=shutil.ignore_patterns("__pycache__"))


def write_scans(path: Path, count: int, shape: tuple[int, int], findings: list[str], cut: int = -1) -> None:
    """Write a database of random grey scans, two per patient; the scan numbered `cut` lacks half of its pixels."""
    draw = np.random.default_rng(0)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE scans (name, height, width, grey, finding, patient)")
        for i in range(count):
            grey = draw.integers(0, 256, shape, dtype=np.uint8).tobytes()
            grey = grey[: len(grey) // 2] if i == cut else grey
            row = (f"scan {i}", *shape, grey, findings[i % len(findings)], f"p{i // 2}")
            database.execute("INSERT INTO scans VALUES (?, ?, ?, ?, ?, ?)", row)


@pytest.fixture(scope="session")
def package():
    """Copies the outside package into a folder."""
    return lay_package


@pytest.fixture(scope="session")
def scans():
    """Writes a database of scans."""
    return write_scans
