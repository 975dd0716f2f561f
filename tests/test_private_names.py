"""Private names of other libraries: each is used in one file only, and a test says which one a new version moved."""

import ast
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
OURS = {"medvq", "config", "hosts"}
USED = {
    "ray._private.node.Node.start_log_monitor": "medvq/workers/ray_server.py",
    "ray._private.node.Node.start_monitor": "medvq/workers/ray_server.py",
    "ray._private.ray_constants.ENABLE_RAY_CLUSTER": "medvq/workers/ray_server.py",
    "ray.init(_node_ip_address=)": "medvq/workers/ray_server.py",
    "ray.init(_temp_dir=)": "medvq/workers/ray_server.py",
    "torch._C._current_graph_task_id": "medvq/models/quantize/base.py",
    "torch.nn.modules.batchnorm._BatchNorm": "medvq/models/norm.py",
}


def private_names(text):
    """The dotted names of a module that go through a private name of a library that it imports."""
    nodes = list(ast.walk(ast.parse(text)))
    meaning, found = {}, set()
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                meaning[alias.asname or top] = alias.name if alias.asname else top
                found.add(alias.name)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                meaning[alias.asname or alias.name] = name = f"{node.module}.{alias.name}"
                found.add(name)

    def dotted(node):
        if isinstance(node, ast.Attribute):
            before = dotted(node.value)
            return f"{before}.{node.attr}" if before else ""
        return meaning.get(node.id, "") if isinstance(node, ast.Name) else ""

    for node in nodes:
        if isinstance(node, ast.Attribute):
            found.add(dotted(node))
        elif isinstance(node, ast.Call) and (called := dotted(node.func)):
            found |= {f"{called}({k.arg}=)" for k in node.keywords if (k.arg or "").startswith("_")}
    foreign = {n for n in found if n and n.partition(".")[0] not in OURS | set(sys.stdlib_module_names)}
    kept = {n for n in foreign if any(p.startswith("_") for p in n.replace("(", ".").split("."))}
    return {n for n in kept if not any(other.startswith(f"{n}.") for other in kept)}


def test_private_names_are_found_however_they_are_written():
    text = """
import ray as r, torch
from torch import _C as c
from ray._private import x
r._a.b, torch.f(_k=1), c.d, self._e
"""
    assert private_names(text) == {"torch._C.d", "ray._private.x", "ray._a.b", "torch.f(_k=)"}


def test_each_private_name_of_a_library_is_used_in_one_file_only():
    files = sorted([*(TOP / "medvq").rglob("*.py"), *(TOP / "slurm").rglob("*.py")])
    used = [(name, str(path.relative_to(TOP))) for path in files for name in private_names(path.read_text())]
    assert sorted(used) == sorted(USED.items()), "use a public name, or add the name and its file to USED"


@pytest.mark.parametrize("name", USED)
def test_the_installed_library_still_has_it(name):
    function, parenthesis, keyword = name.rstrip("=)").partition("(")
    library = importlib.import_module(name.partition(".")[0])
    gone = f"{name} is gone from {library.__name__} {library.__version__}: mend {USED[name]}"
    try:
        value = pkgutil.resolve_name(function)
    except (ImportError, AttributeError):
        value = None
    assert value is not None, gone
    assert not parenthesis or f'"{keyword}"' in inspect.getsource(value), gone


def test_they_still_mean_what_they_meant():
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    assert torch._C._current_graph_task_id() == -1, "no longer -1 outside of a backward pass"
    for kind in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm):
        assert issubclass(kind, _BatchNorm)
