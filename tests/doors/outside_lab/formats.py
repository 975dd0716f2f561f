"""A table format: one sentence for each cell."""

from medvq.results.formats.base import TableFormat


class Sentences(TableFormat):
    """`the test/accuracy of teacher is 0.2`, one line a cell that has a number."""

    suffix = ".txt"

    def render(self, study, tables):
        """Return the sentences of all tables."""
        cells = [cell for table in tables for cell in table.cells.values() if cell.mean is not None]
        return "\n".join(f"the {cell.column} of {cell.row} is {cell.mean:.3g}" for cell in cells)
