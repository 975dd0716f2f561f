"""Importing torchvision beside any build of torch."""

import subprocess
import sys

import pytest

from medvq.errors import MissingError
from medvq.models import vision


def test_torchvision_imports_in_a_process_of_its_own():
    code = (
        "from medvq.models.vision import import_torchvision as f\n"
        "assert f() is f()\n"
        "assert f('torchvision.transforms.v2.functional').adjust_hue"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torchvision_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingError, match="torchvision") as error:
        vision.import_torchvision()
    assert error.value.code == 4
    assert error.value.hint == "pip install 'medvq[vision]'"


def test_another_missing_package_is_not_blamed_on_torchvision(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError("No module named 'PIL'", name="PIL")

    monkeypatch.setattr(vision.importlib, "import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="PIL"):
        vision.import_torchvision()
