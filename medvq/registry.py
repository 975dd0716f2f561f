"""Registry of everything that a study, a recipe or a command refers to by name.

Built-in objects have a short name; their modules are imported at first use. Objects outside medvq are referred to by
their import path, `package.module:Name`. Modules are searched on Python's path, then in the current folder.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from medvq.errors import UsageError, suggest


class Registry(Mapping[str, Any]):
    """Built-in objects of one kind, by name. Iteration gives the names; `[name]` imports and returns the object.

    Models, quantizers and tasks are classes with a description: an object that holds settings or facts, with which a
    study is checked without importing torch.
    """

    def __init__(
        self, kind: str, builtins: Mapping[str, str | tuple[str, str]], *, description: str | None = None
    ) -> None:
        """Create a registry.

        Args:
            kind: the kind of object in one word, such as `model`; used in messages.
            builtins: import path `package.module:Name` of each built-in object; for described kinds, the two paths of
                the object and its description.
            description: name of the attribute that holds the description of a user's own class; None if objects of
                this kind are not classes with a description.
        """
        self.kind, self._description = kind, description
        self._builtins = {name: (path, "") if isinstance(path, str) else path for name, path in builtins.items()}

    def find(self, name: str) -> Any:
        """Return the built-in object `name`, or the object at the import path `name`.

        Raises:
            UsageError: there is no such object (the hint has the closest name), its module cannot be imported, or it
                should be a class and is not.
        """
        if not is_import_path(name):
            return self[name]
        found = import_object(name, self.kind)
        if self._description and not isinstance(found, type):
            raise UsageError(f"{name.partition(':')[0]} has no class {name.partition(':')[2]!r}")
        return found

    def find_description(self, name: str, default: Any = None) -> Any:
        """Return the description of the object `name`; `default` if a user's own class has none.

        Raises:
            UsageError: as for `find`.
        """
        assert self._description is not None
        if is_import_path(name):
            return getattr(self.find(name), self._description, default)
        return _import(self._path(name)[1])

    def __getitem__(self, name: str) -> Any:
        return _import(self._path(name)[0])

    def __contains__(self, name: object) -> bool:
        return name in self._builtins

    def __iter__(self) -> Iterator[str]:
        return iter(self._builtins)

    def __len__(self) -> int:
        return len(self._builtins)

    def _path(self, name: str) -> tuple[str, str]:
        if name not in self._builtins:
            raise UsageError(f"unknown {self.kind} {name!r}", hint=suggest(name, self._builtins))
        return self._builtins[name]


def _import(path: str) -> Any:
    """Import the object at the import path of a built-in."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def is_import_path(name: str) -> bool:
    """Return whether `name` is an import path, `package.module:Name`, and not a built-in name."""
    return ":" in name


def import_object(path: str, kind: str) -> Any:
    """Import and return the object at `path`.

    Args:
        path: import path, `package.module:Name`. The current folder is added to Python's path.
        kind: the kind of object in one word, such as `model`; used in messages.

    Raises:
        UsageError: `path` has another form, the module or the object does not exist, or importing the module fails.
    """
    module, _, name = path.partition(":")
    add_to_path(os.getcwd())
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"{path!r} is not an import path", hint=f"refer to your own {kind} as package.module:Name")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name is None or not (module == e.name or module.startswith(f"{e.name}.")):
            raise UsageError(
                f"importing {module} failed: {e}", hint="install the missing package, or correct the import"
            ) from e
        hint = "modules are searched in the current folder and on PYTHONPATH"
        raise UsageError(f"there is no module {e.name!r}", hint=hint) from e
    except Exception as e:
        at = traceback.extract_tb(e.__traceback__)[-1]
        where = f"{at.filename}, line {at.lineno}"
        raise UsageError(f"importing {module} failed: {type(e).__name__}: {e}", hint=where) from e
    if not hasattr(found, name):
        public = [n for n in vars(found) if not n.startswith("_")]
        raise UsageError(f"{module} has no {name!r}", hint=suggest(name, public))
    return getattr(found, name)


def add_to_path(folder: str) -> None:
    """Append `folder` to Python's path. It comes last, so installed packages are not shadowed."""
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()


MODELS = Registry(
    "model",
    {
        "svqvae": ("medvq.models.svqvae.model:SVQVAE", "medvq.models.svqvae.settings:SVQVAESettings"),
        "vqvae": ("medvq.models.vqvae.model:VQVAE", "medvq.models.vqvae.settings:VQVAESettings"),
    },
    description="Settings",
)
"""Model classes; the description of each is its settings class."""

QUANTIZERS = Registry(
    "quantizer",
    {
        "ema": ("medvq.models.quantize.ema:EMAQuantizer", "medvq.models.quantize.settings:EMASettings"),
        "gradient": (
            "medvq.models.quantize.gradient:GradientQuantizer",
            "medvq.models.quantize.settings:GradientSettings",
        ),
        "cosine": ("medvq.models.quantize.cosine:CosineQuantizer", "medvq.models.quantize.settings:CosineSettings"),
        "grouped": ("medvq.models.quantize.grouped:GroupedQuantizer", "medvq.models.quantize.settings:GroupedSettings"),
        "fsq": ("medvq.models.quantize.fsq:FSQuantizer", "medvq.models.quantize.settings:FSQSettings"),
    },
    description="Settings",
)
"""Quantizer classes; the description of each is its settings class."""

TASKS = Registry(
    "task",
    {
        "autoencode": ("medvq.train.tasks.autoencode.task:Autoencode", "medvq.train.tasks.autoencode.info:AUTOENCODE"),
        "classify": ("medvq.train.tasks.classify.task:Classify", "medvq.train.tasks.classify.info:CLASSIFY"),
        "probe": ("medvq.train.tasks.probe.task:Probe", "medvq.train.tasks.probe.info:PROBE"),
    },
    description="info",
)
"""Task classes; the description of each is a `medvq.config.task_info.TaskInfo`."""

FORMATS = Registry(
    "format",
    {
        "table": "medvq.results.formats.text:Text",
        "md": "medvq.results.formats.markdown:Markdown",
        "csv": "medvq.results.formats.csv:Csv",
        "tex": "medvq.results.formats.latex:Latex",
        "json": "medvq.results.formats.json:Json",
        "parquet": "medvq.results.formats.parquet:Parquet",
    },
)
"""Classes of table formats, derived from `medvq.results.formats.base.TableFormat`."""
