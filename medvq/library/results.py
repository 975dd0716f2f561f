"""The tables of a study as objects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvq.errors import UsageError
from medvq.extras import require
from medvq.results.cells import FilledTable, fill, in_order
from medvq.results.formats.base import find_format
from medvq.runs.collect import collect, study_folders

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class ResultTable:
    """One table of a study: our numbers and the published ones. `print` and notebooks show it as text."""

    study: str
    filled: FilledTable

    @property
    def name(self) -> str:
        """The table's name in the study."""
        return self.filled.name

    @property
    def rows(self) -> list[Any]:
        """What its rows stand for, from top to bottom."""
        return list(self.filled.rows)

    @property
    def columns(self) -> list[Any]:
        """What its columns stand for, from left to right."""
        return list(self.filled.columns)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the cells row by row, with the keys of `medvq results --json`.

        `mean` is over the `n` runs of a cell, `std` their sample standard deviation (None for one run), `ci_low` and
        `ci_high` the 95 % interval of the mean, `published` the paper's number, `runs` the names of the runs.
        Fractions stay fractions: only the text shows per cent.
        """
        return [cell.as_record() for cell in in_order(self.filled)]

    def to_pandas(self) -> DataFrame:
        """Return `to_dicts` as a DataFrame, one line a cell.

        Raises:
            MissingError: pandas is not installed.
        """
        return _frame(self.to_dicts())

    def render(self, form: str = "table") -> str:
        """Return the table as text: `table`, `md`, `csv`, `tex`, `json`, or the import path of a format of your own.

        Raises:
            UsageError: there is no such format, or it is no text.
        """
        return _text(self.study, [self.filled], form)

    def __str__(self) -> str:
        return self.render()

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return self.render("md")


@dataclass(frozen=True, repr=False)
class Results:
    """The tables of a study. `print` and notebooks show them as text."""

    study: str
    """The name of the study."""
    tables: dict[str, ResultTable]
    """The tables by name, in the study's order."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the cells of all tables, each with the name of its `table`; see `ResultTable.to_dicts`."""
        return [{"table": name, **cell} for name, table in self.tables.items() for cell in table.to_dicts()]

    def to_pandas(self) -> DataFrame:
        """Return `to_dicts` as a DataFrame, one line a cell.

        Raises:
            MissingError: pandas is not installed.
        """
        return _frame(self.to_dicts())

    def render(self, form: str = "table") -> str:
        """Return all tables as text; formats as for `ResultTable.render`.

        Raises:
            UsageError: there is no such format, or it is no text.
        """
        return _text(self.study, [table.filled for table in self.tables.values()], form)

    def __str__(self) -> str:
        return self.render()

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return self.render("md")


def results(study: str | os.PathLike[str], *, runs: str | os.PathLike[str] = "runs") -> Results:
    """Read the tables of a study from its runs, as `medvq results` does.

    Runs that are not done leave gaps, which the text marks; so it can be called while the study runs.

    Args:
        study: name of the study, as its folder in `runs`: a smoke test is called `<study>-smoke`.
        runs: folder of all runs.

    Returns:
        The tables: `.tables[name]` is one of them; `to_dicts()` and `to_pandas()` give the cells, `print` the text.

    Raises:
        NotFoundError: the study has no runs there.

    Example:
        >>> import medvq
        >>> found = medvq.results("quickstart-smoke")
        >>> list(found.tables)
        ['accuracy', 'reconstruction']
        >>> cell = found.tables["reconstruction"].to_dicts()[0]
        >>> cell["row"], cell["column"], cell["n"]
        ('pretrain', 'test/mse', 1)
        >>> cell["ci_low"] < cell["mean"] < cell["ci_high"]
        True
    """
    (folder,) = study_folders(os.fspath(study), Path(runs))
    collected = collect(folder)
    tables = {name: ResultTable(collected.study, fill(collected, name, t)) for name, t in collected.tables.items()}
    return Results(collected.study, tables)


def _text(study: str, tables: Sequence[FilledTable], form: str) -> str:
    rendered = find_format(form).render(study, tables)
    if isinstance(rendered, bytes):
        raise UsageError(f"the format {form} is not text", hint=f"medvq results {study} --format {form} --out FILE")
    return rendered


def _frame(rows: Sequence[dict[str, Any]]) -> DataFrame:
    require("pandas", "to_pandas")
    from pandas import DataFrame

    return DataFrame(list(rows))
