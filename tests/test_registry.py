"""The registry of built-in objects by name and of other objects by import path."""

import subprocess
import sys

import pytest

from medvq.errors import UsageError
from medvq.registry import MODELS, QUANTIZERS, TASKS, Registry, is_import_path

LAB = '''\
class Full:
    """A class with a description."""

    Settings = "settings of Full"


class Bare:
    """A class without a description."""


def function():
    """Not a class."""


number = 3
'''


@pytest.fixture
def registry():
    """A registry with the import path of one existing object and those of two broken ones."""
    return Registry(
        "thing",
        {"ordered": "collections:OrderedDict", "no_module": "medvq.nowhere:Thing", "no_name": "collections:Nothing"},
    )


@pytest.fixture
def described():
    """A registry of a kind with descriptions."""
    paths = {"ordered": ("collections:OrderedDict", "string:digits"), "broken": ("medvq.nowhere:X", "string:digits")}
    return Registry("thing", paths, description="Settings")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A module `registry_lab` in the current folder, which is not on Python's path."""
    (tmp_path / "registry_lab.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("registry_lab", None)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("orderd", "did you mean ordered?"), ("zzz", "known: no_module, no_name, ordered"), ("", "known: ")],
)
def test_an_unknown_name_is_an_error_with_the_closest_one(registry, name, hint):
    for ask in (registry.find, registry.__getitem__):
        with pytest.raises(UsageError, match=f"unknown thing '{name}'") as e:
            ask(name)
        assert e.value.hint.startswith(hint)


def test_the_description_of_an_unknown_name_is_an_error_with_the_closest_one(described):
    with pytest.raises(UsageError, match="unknown thing 'brokn'") as e:
        described.find_description("brokn")
    assert e.value.hint == "did you mean broken?"


def test_objects_are_imported_when_they_are_asked_for(registry):
    from collections import OrderedDict

    assert list(registry) == ["ordered", "no_module", "no_name"]
    assert len(registry) == 3
    assert "no_module" in registry
    assert "collections:OrderedDict" not in registry, "only built-in names are members"
    assert registry.find("ordered") is registry["ordered"] is OrderedDict
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        registry.find("no_module")
    with pytest.raises(AttributeError, match="Nothing"):
        registry.find("no_name")


def test_the_built_in_registries_do_not_import_torch():
    code = (
        "import sys; from medvq.registry import MODELS, QUANTIZERS, TASKS;"
        "[r.find_description(n) for r in (MODELS, QUANTIZERS, TASKS) for n in r];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("builtin", [MODELS, QUANTIZERS, TASKS], ids=lambda r: r.kind)
def test_every_built_in_object_can_be_imported(builtin):
    for name in builtin:
        assert isinstance(builtin[name], type)
        attribute = "info" if builtin is TASKS else "Settings"
        described = getattr(builtin[name], attribute, None)
        if described is not None:
            assert builtin.find_description(name) is described


def test_descriptions_of_built_ins_are_found_without_their_objects(described):
    assert described.find_description("ordered") == "0123456789"
    assert described.find_description("broken") == "0123456789"
    with pytest.raises(ModuleNotFoundError):
        described.find("broken")


def test_objects_and_descriptions_are_found_by_import_path(described, lab):
    assert described.find("registry_lab:Full").__name__ == "Full"
    assert described.find_description("registry_lab:Full") == "settings of Full"
    assert described.find_description("registry_lab:Bare", default="none") == "none"
    assert described.find_description("registry_lab:Bare") is None


@pytest.mark.parametrize("name", ["function", "number"])
def test_only_classes_have_descriptions(described, registry, lab, name):
    for ask in (described.find, described.find_description):
        with pytest.raises(UsageError, match=f"registry_lab has no class '{name}'"):
            ask(f"registry_lab:{name}")
    assert registry.find(f"registry_lab:{name}") is not None, "kinds without descriptions may be any object"


@pytest.mark.parametrize(
    ("path", "words", "hint"),
    [
        ("registry_lab:Ful", "registry_lab has no 'Ful'", "did you mean Full?"),
        ("registry_lap:Full", "there is no module 'registry_lap'", "current folder"),
        ("registry_lab:", "'registry_lab:' is not an import path", "your own thing"),
        ("registry-lab:Full", "'registry-lab:Full' is not an import path", "package.module:Name"),
    ],
)
def test_a_wrong_import_path_is_a_usage_error(registry, lab, path, words, hint):
    assert is_import_path(path)
    with pytest.raises(UsageError, match=words) as e:
        registry.find(path)
    assert hint in e.value.hint
