"""A source of one's own, in this process: what it must keep to, and what is made of its code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trees import class_folders

from medvq.config.recipe import SOURCES, Recipe, load_recipe
from medvq.errors import UsageError
from medvq.shards.pack.pack import pack
from medvq.shards.pack.phases import fingerprint_of
from medvq.shards.source.base import Source
from medvq.shards.source.resolve import read_source

CODE = '''
import numpy as np
from medvq.shards.image.arrays import npy_bytes
from medvq.shards.source.base import Listing, Source, SourceEntry

class Rows(Source):
    """Rows of a text file: a name, a class and a grey value."""
    def __init__(self, path, recipe, *, exclude=()):
        self.path, self.recipe = path, recipe
        self.rows = [line.split() for line in path.read_text().splitlines()]
    @classmethod
    def can_open(cls, path, recipe):
        return path.suffix == ".rows"
    def listing(self):
        out = Listing(recipe=self.recipe, base=self.path.parent)
        out.images = [SourceEntry(n, 0, fields={"class": c, "split": None}) for n, c, _ in self.rows]
        return out
    def read(self, path, size):
        grey = next(int(g) for n, _, g in self.rows if n == path)
        return npy_bytes(np.full((8, 8), grey, np.uint8))
'''


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `lab_NAME` beside a file of six rows; each test has a name of its own, as modules are kept."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"lab_{tmp_path.name}.py").write_text(CODE)
    (tmp_path / "x.rows").write_text("".join(f"im{i} {'ab'[i % 2]} {40 * i}\n" for i in (5, 3, 1, 4, 2, 0)))
    return tmp_path / "x.rows"


def recipe_of(rows: Path) -> Recipe:
    return Recipe(container=f"lab_{rows.parent.name}:Rows")


def test_entries_without_an_order_are_sorted_and_unknown_fields_left_out(rows: Path) -> None:
    found = read_source(rows, recipe_of(rows)).arranged
    assert [(s.path, s.id, s.label, s.split) for s in found.samples] == [
        (f"im{i}", f"im{i}", "ab"[i % 2], "train") for i in range(6)
    ]
    assert found.classes == ["a", "b"]


def test_an_entry_that_is_listed_twice_is_refused(rows: Path) -> None:
    rows.write_text(rows.read_text() * 2)
    with pytest.raises(UsageError, match="lists im5 more than once"):
        read_source(rows, recipe_of(rows))


def test_what_changed_in_the_content_or_the_code_is_not_taken_for_the_same(rows: Path, tmp_path: Path) -> None:
    recipe = recipe_of(rows)
    pack(rows, tmp_path / "out", recipe, processes=1)
    assert pack(rows, tmp_path / "out", recipe, processes=1).unchanged
    before = fingerprint_of(read_source(rows, recipe))
    assert fingerprint_of(read_source(rows, recipe)) == before
    module = rows.parent / f"lab_{rows.parent.name}.py"
    module.write_text(module.read_text().replace("(8, 8)", "(9, 9)"))
    assert fingerprint_of(read_source(rows, recipe)) != before
    rows.write_text(rows.read_text().replace("160", "161"))
    with pytest.raises(UsageError, match="the source changed since: 1 images are new"):
        pack(rows, tmp_path / "out", recipe, processes=1)


def test_every_builtin_source_keeps_to_the_interface() -> None:
    assert list(SOURCES)[-1] == "folder", "it opens every folder, and so is asked last"
    for name in SOURCES:
        kind = SOURCES[name]
        assert Source in kind.__mro__
        assert not kind.__abstractmethods__


@pytest.mark.parametrize(
    ("name", "why"), [("npz", ""), ("folder", ""), ("no", "unknown container 'no'"), ("a-b:C", "import path")]
)
def test_a_recipe_names_its_container(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "r.yaml").write_text(f"name: x\ncontainer: {name}\n")
    if not why:
        assert load_recipe(tmp_path / "r.yaml").container == name
        return
    with pytest.raises(UsageError, match=why) as e:
        load_recipe(tmp_path / "r.yaml")
    assert str(e.value.where).endswith("r.yaml:2: container")


def test_metadata_of_a_container_that_has_none_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=np.zeros((2, 4, 4), np.uint8))
    class_folders(tmp_path / "s", {"a": 2, "b": 2})
    for source in ("x.npz", "s"):
        with pytest.raises(UsageError, match="has no metadata, which the recipe names"):
            read_source(tmp_path / source, Recipe(metadata={"group": "patient"}))


def test_a_container_of_a_recipe_without_a_file_is_checked_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(UsageError, match="unknown container 'npy'") as e:
        read_source(tmp_path / "x.npz", Recipe(container="npy"))
    assert e.value.hint == "did you mean npz?"
