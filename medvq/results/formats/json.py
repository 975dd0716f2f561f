"""Tables as JSON, for other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from medvq.results.cells import FilledTable, in_order
from medvq.results.formats.base import TableFormat


class Json(TableFormat):
    """`{study, tables: {NAME: {…, cells: [{row, column, mean, std, n, ci_low, ci_high, published, missing, …}]}}}`."""

    suffix = ".json"

    def render(self, study: str, tables: Sequence[FilledTable]) -> str:
        """Return one object for the study."""
        found = {
            t.name: {
                "about": t.table.about,
                "rows": t.rows,
                "columns": t.columns,
                "value": t.table.value,
                "over": t.table.over,
                "as_published": t.as_published,
                "differences": [{k: v for k, v in vars(d).items() if k != "reason" or v} for d in t.differences],
                "mixed": t.mixed,
                "cells": [cell.as_record() for cell in in_order(t)],
            }
            for t in tables
        }
        return json.dumps({"study": study, "tables": found}, indent=1, ensure_ascii=False, allow_nan=False)

    def render_all(self, studies: Sequence[tuple[str, Sequence[FilledTable]]]) -> str:
        """Return a list with one object for each study."""
        return f"[{','.join(self.render(study, tables) for study, tables in studies)}]"
