"""Check that a task reads every role that it declares."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType
from typing import Any

from medvq.errors import UsageError


def check_roles(kind: type, base: type) -> None:
    """Check that a task class reads `self.needs[role]` for every role that it declares.

    The check looks for the name of the role among the string constants of the methods of `kind` and its bases below
    `base`. A method that iterates over `self.needs.values()` or `.items()` reads all roles. The role `init` is
    excluded: the training engine loads its weights.

    Args:
        kind: the task class.
        base: the class `Task`.

    Raises:
        UsageError: a declared role is never read.
    """
    info = getattr(kind, "info", None)
    roles = [role for role in getattr(info, "roles", ()) if role != "init"]
    if not roles:
        return
    names: set[str] = set()
    for part in kind.__mro__:
        if part is base:
            break
        for value in vars(part).values():
            for code in _code_of(value):
                names.update(text for text in code.co_consts if isinstance(text, str))
                if "needs" in code.co_names and {"values", "items"} & set(code.co_names):
                    return
    unread = [role for role in roles if role not in names]
    if unread:
        raise UsageError(
            f"task {kind.__name__} declares the role {unread[0]!r} and never reads it",
            hint=f'use self.needs["{unread[0]}"], or remove the role from its info',
        )


def _code_of(value: Any) -> Iterator[CodeType]:
    """Yield the code objects of a function, method, property or cached property, and of functions nested in it."""
    wrapped = [getattr(value, name, None) for name in ("fget", "func", "__func__", "__wrapped__")]
    waiting = [f.__code__ for f in (value, *wrapped) if hasattr(f, "__code__")]
    while waiting:
        code = waiting.pop()
        yield code
        waiting += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
