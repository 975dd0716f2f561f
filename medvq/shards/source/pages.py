"""Take the pages and frames of image files as samples, if the recipe says so."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Self

from medvq.config.recipe import Recipe
from medvq.shards.image.bad import BadImage
from medvq.shards.image.pages import count_pages, page_bytes
from medvq.shards.source.base import Left, Listing, Source
from medvq.shards.source.sample_reader import Sample
from medvq.shards.source.samples import Arranged

PAGE = re.compile(r"(.*)#page=(\d+)", re.DOTALL)
"""Path of a page within a source."""


def with_pages(arranged: Arranged, source: Source) -> PagedSource:
    """Replace each sample of a file with several pages by a sample for each page, and return the source of them.

    Pages of one file have its label and split, and its group or, without one, its path as group. Page n of a mask
    belongs to page n of the image.
    """
    sizes: dict[str, int] = {}
    out: list[Sample] = []
    for sample in arranged.samples:
        pages = _pages(source, sample.path, sample.size)
        masks = _pages(source, sample.mask.path, sample.mask.size) if sample.mask else pages
        if masks != pages:
            arranged.bad.append(Left(sample.path, f"it has {pages} pages, and its mask has {masks}"))
            continue
        if pages == 1:
            out.append(sample)
            continue
        for n in range(pages):
            path = f"{sample.path}#page={n}"
            mask = sample.mask and replace(sample.mask, path=f"{sample.mask.path}#page={n}")
            sizes |= {path: sample.size} | ({mask.path: mask.size} if mask else {})
            out.append(replace(sample, path=path, group=sample.group or sample.path, mask=mask))
    arranged.samples = out
    return PagedSource(source, sizes)


def _pages(source: Source, path: str, size: int) -> int:
    try:
        return count_pages(source.read(path, size))
    except BadImage:  # told when it is decoded
        return 1


class PagedSource(Source):
    """A source whose entries may be pages of files of another source."""

    def __init__(self, source: Source, sizes: dict[str, int]) -> None:
        """Wrap `source`; `sizes` holds the size of the file of each page, by the path of the page."""
        self.source, self.sizes = source, sizes
        self._last: tuple[str, bytes] = ("", b"")

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_last": ("", b"")}

    @classmethod
    def can_open(cls, path: Path, recipe: Recipe, *, exclude: Collection[Path] = ()) -> bool:
        """Return False: this source only wraps others."""
        return False

    def listing(self) -> Listing:
        """Return the listing of the source itself."""
        return self.source.listing()

    def read(self, path: str, size: int) -> bytes:
        """Return the bytes of an entry; of a page, a file that has only this page.

        Raises:
            BadImage: it cannot be read.
        """
        if path not in self.sizes:
            return self.source.read(path, size)
        match = PAGE.fullmatch(path)
        assert match is not None
        if self._last[0] != match[1]:
            self._last = match[1], self.source.read(match[1], self.sizes[path])
        return page_bytes(self._last[1], int(match[2]))

    def identify(self, path: str) -> str:
        """Return the sha256 of what `read` returns, or why it cannot be read."""
        if path not in self.sizes:
            return self.source.identify(path)
        try:
            return hashlib.sha256(self.read(path, self.sizes[path])).hexdigest()
        except BadImage as e:
            return str(e)

    def stamp(self) -> str:
        """Return the stamp of the source itself."""
        return self.source.stamp()

    def prepared(self, folder: Path) -> Self:
        """Return this source with its files prepared."""
        self.source = self.source.prepared(folder)
        return self

    def close(self) -> None:
        """Release what the source holds."""
        self._last = ("", b"")
        self.source.close()
