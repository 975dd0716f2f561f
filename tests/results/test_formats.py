"""Tables as LaTeX and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from medvq.cli.show import write_results
from medvq.config.study import Table
from medvq.errors import UsageError
from medvq.results.cells import Cell, Filled
from medvq.results.formats.latex import escaped
from medvq.results.formats.parquet import write_cells
from medvq.results.render import FORMATS, render


def cell(row: Any, column: Any, mean: float | None, **more: Any) -> Cell:
    facts = {"std": None, "n": 1, "ci_low": None, "ci_high": None, "published": None, "comparable": False, "missing": 0}
    return Cell(row=row, column=column, mean=mean, **{**facts, "runs": ("r1", "r2"), **more})


def table(*cells: Cell, **about: Any) -> Filled:
    rows, columns = (list(dict.fromkeys(getattr(c, k) for c in cells)) for k in ("row", "column"))
    made = Table(rows="data.masks", columns="data.subset", value="test/accuracy", over="train.seed", **about)
    return Filled(
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
    assert escaped(text) == expected


@pytest.mark.parametrize(("mean", "expected"), [(-0.5, "$-$0.5"), (1.5e-7, r"$1.5 \times 10^{-7}$"), (12.0, "12")])
def test_latex_numbers(mean: float, expected: str) -> None:
    assert rf"a & {expected} \\" in render("s", [table(cell("a", "b", mean))], "tex")


def test_no_line_break_ends_a_comment_early() -> None:
    text = render("s", [table(cell("a", "b", 1.0), about="one\nnever \\input this")], "tex")
    assert "% accuracy: one never" in text


def test_parquet_has_a_row_a_cell(tmp_path: Path) -> None:
    write_cells([("wbc", [FILLED]), ("empty", [])], tmp_path / "cells.parquet")
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
    write_cells([], tmp_path / "cells.parquet")
    found = pq.read_schema(tmp_path / "cells.parquet")
    assert {"study", "mean", "runs"} <= set(found.names)


def test_parquet_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="goes to a file"):
        write_results([tmp_path], None)


def test_a_misspelt_format_names_the_nearest() -> None:
    with pytest.raises(UsageError) as e:
        render("s", [], "parqet")
    assert e.value.hint == "did you mean parquet?"
    assert FORMATS == ("table", "md", "csv", "tex", "json", "parquet")
