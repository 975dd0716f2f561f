"""The error for one image that cannot be used."""

from __future__ import annotations


class BadImage(Exception):  # noqa: N818 - it names a thing of the source, not a fault of the program
    """An image cannot enter a dataset; the text gives the reason."""
