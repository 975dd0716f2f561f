"""Tables in every format, the built-in ones and a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from medvq.cli.show import choose_format
from medvq.config.study import Table
from medvq.errors import UsageError
from medvq.registry import FORMATS
from medvq.results.cells import Cell, FilledTable, in_order
from medvq.results.compare import RowDifference
from medvq.results.formats.base import TableFormat, find_format, format_of_file
from medvq.results.formats.latex import escape
from medvq.results.formats.parquet import Parquet


def render(study: str, tables: list[FilledTable], form: str) -> str:
    text = find_format(form).render(study, tables)
    assert isinstance(text, str)
    return text


def cell(row: Any, column: Any, mean: float | None, **more: Any) -> Cell:
    facts = {"std": None, "n": 1, "ci_low": None, "ci_high": None, "published": None, "comparable": False, "missing": 0}
    return Cell(row=row, column=column, mean=mean, **{**facts, "runs": ("r1", "r2"), **more})


def table(*cells: Cell, **about: Any) -> FilledTable:
    rows, columns = (list(dict.fromkeys(getattr(c, k) for c in cells)) for k in ("row", "column"))
    made = Table(rows="data.masks", columns="data.subset", value="test/accuracy", over="train.seed", **about)
    return FilledTable(
        name="accuracy",
        table=made,
        rows=rows,
        columns=columns,
        cells={(c.row, c.column): c for c in cells},
        smoke=False,
    )


FILLED = table(
    cell(False, 100, 0.91234, std=0.0031, n=3, published=0.909, comparable=True),
    cell(True, 100, 0.93, published=0.94),
    cell(False, 1, 0.5, std=0.02, n=3, ci_low=0.4, ci_high=0.6),
    cell(True, 1, None, missing=3),
    about="few labels & 50 % of them_all",
    percent=True,
)


def test_latex_shows_ours_beside_published() -> None:
    text = render("wbc", [FILLED], "tex")
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert lines == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"data.masks \textbackslash{} data.subset & \multicolumn{2}{c}{100} & 1 \\",
        r"\cmidrule(lr){2-3}",
        r" & ours & published & ours \\",
        r"\midrule",
        r"False & 91.2 $\pm$ 0.3 & 90.9 & 50.0 $\pm$ 2.0 \\",
        r"True & 93.0 & 94.0\textsuperscript{*} & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert "% accuracy: few labels & 50 % of them_all" in text
    assert "% * published for other data" in text
    assert "over train.seed" in text


@pytest.mark.parametrize(
    ("mean", "more", "expected"),
    [
        (None, {"missing": 3, "waiting": 3}, "(3 to do)"),
        (None, {"missing": 3, "waiting": 1, "failed": 2}, "(2 failed, 1 to do)"),
        (None, {"missing": 1}, "–"),  # done, and its task has no such metric
        (0.5, {"missing": 1, "failed": 1}, "0.5 (1 failed)"),
        (0.5, {}, "0.5"),
    ],
)
def test_what_is_not_there_says_whether_it_will_come(mean: float | None, more: dict[str, int], expected: str) -> None:
    text = render("s", [table(cell("a", "b", mean, **more))], "md")
    assert f"| {expected} |" in text


def test_a_note_tells_what_cells_have_and_nothing_else() -> None:
    assert "cells: mean ± standard deviation over train.seed [95 % interval]" in render("s", [FILLED], "table")
    assert "cells: mean\n" in render("s", [table(cell("a", "b", 0.5))], "table") + "\n"
    assert "interval" not in render("s", [FILLED], "tex")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a_b & 5 % {x} #1 $", r"a\_b \& 5 \% \{x\} \#1 \$"),
        (r"c:\x~^", r"c:\textbackslash{}x\textasciitilde{}\textasciicircum{}"),
        ("two\nlines", "two lines"),
        ("β ≤ 0.5 <1", r"β ≤ 0.5 \textless{}1"),
    ],
)
def test_latex_is_escaped(text: str, expected: str) -> None:
    assert escape(text) == expected


@pytest.mark.parametrize(("mean", "expected"), [(-0.5, "$-$0.5"), (1.5e-7, r"$1.5 \times 10^{-7}$"), (12.0, "12")])
def test_latex_numbers(mean: float, expected: str) -> None:
    assert rf"a & {expected} \\" in render("s", [table(cell("a", "b", mean))], "tex")


def test_no_line_break_ends_a_comment_early() -> None:
    text = render("s", [table(cell("a", "b", 1.0), about="one\nnever \\input this")], "tex")
    assert "% accuracy: one never" in text


def test_parquet_has_a_row_a_cell(tmp_path: Path) -> None:
    (tmp_path / "cells.parquet").write_bytes(Parquet().render_all([("wbc", [FILLED]), ("empty", [])]))
    rows = pq.read_table(tmp_path / "cells.parquet").to_pylist()
    assert [(r["row"], r["column"]) for r in rows] == [("False", "100"), ("False", "1"), ("True", "100"), ("True", "1")]
    assert rows[0] == {
        "study": "wbc", "table": "accuracy", "value": "test/accuracy", "row": "False", "column": "100",
        "mean": 0.91234, "std": 0.0031, "n": 3, "ci_low": None, "ci_high": None, "published": 0.909,
        "comparable": True, "missing": 0, "runs": ["r1", "r2"],
    }  # fmt: skip
    assert rows[3]["mean"] is None
    assert rows[3]["missing"] == 3


def test_a_table_without_cells_still_has_its_columns(tmp_path: Path) -> None:
    (tmp_path / "cells.parquet").write_bytes(Parquet().render_all([]))
    found = pq.read_schema(tmp_path / "cells.parquet")
    assert {"study", "mean", "runs"} <= set(found.names)


@pytest.mark.parametrize("name", ["parquet", f"{__name__}:Numbers"])
def test_a_binary_format_needs_a_file(name: str) -> None:
    with pytest.raises(UsageError, match="goes to a file"):
        choose_format(name, None)


def test_a_misspelt_format_names_the_nearest() -> None:
    with pytest.raises(UsageError) as e:
        choose_format("parqet", None)
    assert e.value.hint == "did you mean parquet?"
    assert e.value.where == "--format"
    assert tuple(FORMATS) == ("table", "md", "csv", "tex", "json", "parquet")


@pytest.mark.parametrize("name", FORMATS)
def test_the_suffix_of_a_file_tells_the_format(name: str) -> None:
    form = find_format(name)
    assert format_of_file(Path(f"a.b{form.suffix}")) == name
    assert type(choose_format(None, Path(f"x{form.suffix.upper()}"))) is type(form)
    assert choose_format("csv", Path(f"x{form.suffix}")).suffix == ".csv"


def test_a_file_without_a_known_suffix_gets_the_plain_table() -> None:
    assert format_of_file(Path("/dev/stdout")) == "table"


EVERYTHING = replace(
    FILLED,
    smoke=True,
    mixed=["train.epochs"],
    as_published={"best_on_test": ["fit"]},
    differences=[
        RowDifference(row=True, than=False, column=100, value=0.02, low=-0.01, high=0.05, p=p, test="McNemar", n=1728)
        for p in (0.0004, 0.23)
    ],
)


@pytest.mark.parametrize("name", [name for name in FORMATS if not find_format(name).binary])
def test_the_text_of_a_format_stays_the_same(name: str) -> None:
    """Other programs read it. The expected files were written by medvq 0.1."""
    form = find_format(name)
    found = form.render_all([("wbc", [FILLED, EVERYTHING]), ("two", [FILLED])])
    expected = Path(__file__).parent / "expected" / f"tables{form.suffix}"
    assert f"{found}\n" == expected.read_text(encoding="utf-8")


class Html(TableFormat):
    """A text format as a user writes it."""

    suffix = ".html"

    def render(self, study: str, tables: Sequence[FilledTable]) -> str:
        return f"<h1>{study}</h1>" + "".join(f"<p>{cell.mean}" for t in tables for cell in in_order(t))


class Numbers(TableFormat):
    """A binary format as a user writes it."""

    suffix, binary = ".f8", True

    def render(self, study: str, tables: Sequence[FilledTable]) -> bytes:
        return np.array([c.mean for t in tables for c in in_order(t) if c.mean is not None]).tobytes()


class Unfinished(TableFormat):
    """A format without `render`."""


def test_a_users_own_format_goes_through_the_same_door(tmp_path: Path) -> None:
    form = choose_format(f"{__name__}:Html", None)
    assert form.render("wbc", [table(cell("a", "b", 0.5))]) == "<h1>wbc</h1><p>0.5"
    assert form.render_all([("wbc", []), ("two", [])]) == "<h1>wbc</h1>\n\n<h1>two</h1>"
    binary = choose_format(f"{__name__}:Numbers", tmp_path / "x")
    assert binary.render_all([("wbc", [table(cell("a", "b", 0.5))])]) == np.float64(0.5).tobytes()
    with pytest.raises(UsageError, match="holds one study, not 2"):
        binary.render_all([("wbc", []), ("two", [])])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Unfinished", "no method `render`"),
        ("table", "is not a table format"),
        ("FILLED", "is not a table format"),
        ("Htlm", "has no 'Htlm'"),
    ],
)
def test_what_is_no_format_is_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        choose_format(f"{__name__}:{name}", None)
