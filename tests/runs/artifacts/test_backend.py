"""Figures need no backend of matplotlib."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "no-such-backend"])
def test_figures_are_drawn_whatever_backend_the_environment_names(backend):
    code = "from medvq.runs.artifacts.figures import new_figure; new_figure(1, 1)"
    environment = {**os.environ, "MPLBACKEND": backend}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
