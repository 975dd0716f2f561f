"""One registry for everything that a study, recipe or command names: built-ins by name, a user's own by import path.

A built-in is a name and the import path of its object, which is imported when it is asked for. A user's own object is
named by its import path, `package.module:Name`, and goes through the same door. Modules are looked for where Python
looks, then in the folder where the command runs.
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
    """The built-in objects of one kind by name. Iterating gives the names; `[name]` imports the object.

    Models, quantizers and tasks are classes that also have a description: settings or facts that a study is checked
    against before torch is imported.
    """

    def __init__(
        self, kind: str, builtins: Mapping[str, str | tuple[str, str]], *, description: str | None = None
    ) -> None:
        """Make a registry.

        Args:
            kind: what the objects are, in one word, for messages.
            builtins: import path, `package.module:Name`, of each built-in object; or the paths of object and
                description.
            description: attribute under which a user's own class holds its description.
        """
        self.kind, self._description = kind, description
        self._builtins = {name: (path, "") if isinstance(path, str) else path for name, path in builtins.items()}

    def find(self, name: str) -> Any:
        """Return the built-in object called `name`, or the user's own object at that import path.

        Raises:
            UsageError: there is no such object, with the nearest name.
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
            UsageError: there is no such object, with the nearest name.
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
    """Import a built-in object."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def is_import_path(name: str) -> bool:
    """Return whether `name` has the form `package.module:Name`."""
    return ":" in name


def import_object(path: str, kind: str) -> Any:
    """Import the object that `package.module:Name` names.

    Args:
        path: the import path.
        kind: what the object should be, for messages.

    Raises:
        UsageError: the module or the object does not exist, or importing the module fails.
    """
    module, _, name = path.partition(":")
    add_to_path(os.getcwd())
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"{path!r} is no import path", hint=f"write a {kind} of your own as package.module:Name")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name is None or not (module == e.name or module.startswith(f"{e.name}.")):
            raise UsageError(f"importing {module} failed: {e}", hint="install it, or correct the import") from e
        hint = "modules are looked for in the folder where the command runs and on PYTHONPATH"
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
    """Let Python import from `folder`, after all other places, so that nothing installed is shadowed."""
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
"""Classes of models; their descriptions are settings classes."""

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
"""Classes of quantizers; their descriptions are settings classes."""

TASKS = Registry(
    "task",
    {
        "autoencode": ("medvq.train.tasks.autoencode.task:Autoencode", "medvq.train.tasks.autoencode.info:AUTOENCODE"),
        "classify": ("medvq.train.tasks.classify.task:Classify", "medvq.train.tasks.classify.info:CLASSIFY"),
        "probe": ("medvq.train.tasks.probe.task:Probe", "medvq.train.tasks.probe.info:PROBE"),
    },
    description="info",
)
"""Classes of tasks; their descriptions are `medvq.config.task_info.TaskInfo`."""

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
