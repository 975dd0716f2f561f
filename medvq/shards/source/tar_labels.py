"""The classes of tar shards: names of class numbers, which are known only once all samples have been read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from medvq.config.recipe import Recipe
from medvq.shards.source.alike import fold


class HasClass(Protocol):
    """A sample that states the number or the name of its class, or both."""

    number: int | None
    name: str | None


class TarClasses:
    """The classes of the samples of tar shards."""

    def __init__(self, names: Sequence[str], where: str, recipe: Recipe, samples: Iterable[HasClass]) -> None:
        """Learn what class numbers mean.

        Args:
            names: class names in the order of their numbers, if a file beside the shards lists them.
            where: the name of that file.
            recipe: names classes too, in label order, with other spellings.
            samples: all samples. Those that state a number and a name tell what a number means.
        """
        self._names, self._where = list(names), where
        self._ordered, self._aliases = recipe.class_names(), {fold(name): name for name in recipe.aliases()}
        pairs: dict[int, set[str]] = {}
        named = False
        for s in samples:
            if s.number is not None and s.name is not None:
                pairs.setdefault(s.number, set()).add(s.name)
            named = named or s.name is not None
        self._learnt = {number: next(iter(found)) for number, found in sorted(pairs.items()) if len(found) == 1}
        self._doubtful = {number: sorted(found) for number, found in pairs.items() if len(found) > 1}
        numbers: dict[str, int] = {}
        for number, name in self._learnt.items():
            if numbers.setdefault(name, number) != number:
                self._doubtful |= {n: [name] for n in (numbers[name], number)}
        self.numbered = not named
        """Whether classes are known by number only."""

    @property
    def order(self) -> list[str]:
        """Class names in label order; empty if no name of a number is known."""
        return self._names or list(self._learnt.values())

    def label_of(self, sample: HasClass) -> tuple[str | None, str | None]:
        """Return the class of a sample, None if it states none, and why it is not clear, if so."""
        number, name = sample.number, sample.name
        if number is None:
            return name, self._unknown(name)
        if number in self._doubtful and not self._names:
            names = self._doubtful[number]
            shared = f"several classes: {', '.join(names)}" if len(names) > 1 else f"{names[0]}, as another number does"
            return None, f"in these shards the class number {number} means {shared}"
        meant = self._of_number(number)
        if meant is None:
            return None, f"the class number {number} has no name in {self._where} ({len(self._names)} names)"
        if name is not None and fold(name) != fold(meant):
            return None, f"two labels: {meant} by its class number {number} and {name} by its JSON"
        return meant, None

    def _unknown(self, name: str | None) -> str | None:
        if name is None or not self._names or self._ordered or name in self._names:
            return None
        return f"the class {name} is not in {self._where}"

    def _of_number(self, number: int) -> str | None:
        if self._names:
            return self._names[number] if 0 <= number < len(self._names) else None
        if number in self._learnt:
            return self._learnt[number]
        if fold(str(number)) in self._aliases or not 0 <= number < len(self._ordered):
            return str(number)
        return self._ordered[number]
