"""A container that medvq does not know: a table of a SQLite database with a row per image."""

import sqlite3

import numpy as np

from medvq.shards.image.arrays import npy_bytes
from medvq.shards.image.bad import BadImage
from medvq.shards.source.base import Left, Listing, Source, SourceEntry


class Database(Source):
    """Rows (name, height, width, grey, finding, patient) of the table `scans`."""

    def __init__(self, path, recipe, *, exclude=()):
        self.path, self.recipe = path, recipe

    @classmethod
    def can_open(cls, path, recipe):
        return path.suffix == ".db"

    def listing(self):
        out = Listing(layout="a table of scans", base=self.path.parent)
        out.recipe = self.recipe.model_copy(update={"name": self.recipe.name or self.path.stem})
        for name, size, finding, patient in self._rows("SELECT name, length(grey), finding, patient FROM scans"):
            if finding is None:
                out.bad.append(Left(name, "nobody has looked at it"))
            else:
                out.images.append(SourceEntry(name, size, fields={"class": finding, "group": patient}))
        return out

    def read(self, path, size):
        rows = self._rows("SELECT height, width, grey FROM scans WHERE name = ?", path)
        if len(rows[0][2]) != rows[0][0] * rows[0][1]:
            raise BadImage("its pixels do not fill its size")
        return npy_bytes(np.frombuffer(rows[0][2], np.uint8).reshape(rows[0][:2]))

    def _rows(self, query, *values):
        with sqlite3.connect(self.path) as database:
            return database.execute(query, values).fetchall()


class HalfASource(Source):
    """It cannot read."""

    @classmethod
    def can_open(cls, path, recipe):
        return True

    def listing(self):
        return Listing()


class NotASource:
    """It has no method of a source."""
