"""Hash the source of a user's own code, which a study names by import path, such as `my_lab.nets:Net`.

The hash covers the module and the user's other modules that it imports, so a changed file makes another run.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from medvq.config.schema import Schema
from medvq.errors import DataError
from medvq.registry import add_to_path, import_object


class CodeRef(Schema):
    """Where a user's code was, and a hash of it."""

    root: str
    """Folder from which Python imports it."""
    sha256: str
    """Hash over the names and bytes of its modules."""


def code_of(path: str) -> CodeRef:
    """Return the place and hash of the source behind an import path that has been imported already.

    The hash covers the module, its packages, and every module that they import anywhere in their files, as long as it
    belongs to the same top-level package or, for code that is not installed, to the same folder.
    """
    total = hashlib.sha256()
    for module, file in sorted(files_of(path).items()):
        content = file.read_bytes()
        total.update(f"{module}\n{len(content)}\n".encode() + content)
    return CodeRef(root=str(root_of(path)), sha256=total.hexdigest())


def files_of(path: str) -> dict[str, Path]:
    """Return the files of the modules that `code_of` covers, by module name."""
    first = path.partition(":")[0]
    root = _root(first)
    found: dict[str, Path] = {}
    waiting = [first]
    while waiting:
        module = waiting.pop()
        file = _file_of(module, first, root)
        if module in found or file is None:
            continue
        found[module] = file
        waiting += [".".join(module.split(".")[:n]) for n in range(1, module.count(".") + 1)]
        waiting += _imports(file.read_bytes(), module, package=file.name == "__init__.py")
    return found


def root_of(path: str) -> Path:
    """Return the folder from which Python imports the code at an import path."""
    return _root(path.partition(":")[0])


def is_installed(root: Path) -> bool:
    """Return whether code in this folder is an installed package."""
    return bool({"site-packages", "dist-packages"} & set(root.parts))


def prepare(code: dict[str, CodeRef]) -> None:
    """Make the code of a run importable in this process.

    Raises:
        DataError: the source differs from what it was when the run was planned.
    """
    for path, ref in code.items():
        add_to_path(ref.root)
        import_object(path, "object")
        if code_of(path).sha256 != ref.sha256:
            raise DataError(
                f"the source of {path} has changed since the run was planned",
                where=ref.root,
                hint="start the study again to plan it with the present source",
            )


def _root(module: str) -> Path:
    """Return the folder from which a module's top-level package is imported."""
    file = Path(str(sys.modules[module].__file__)).resolve()
    up = module.count(".") + (file.name == "__init__.py")
    return file.parents[up]


def _file_of(module: str, first: str, root: Path) -> Path | None:
    """Return the source file of a module if it is the user's own, else None."""
    if module.split(".")[0] != first.split(".")[0] and is_installed(root):
        return None
    base = root.joinpath(*module.split("."))
    return next((f for f in (base / "__init__.py", base.with_name(f"{base.name}.py")) if f.is_file()), None)


def _imports(source: bytes, module: str, package: bool) -> Iterator[str]:
    """Yield the full names of the modules that a module may import."""
    here = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
