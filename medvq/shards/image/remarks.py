"""What a person should know about how an image was read: kinds of remarks, and warnings of the decoder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

REMARKS = {
    "pages": "images have further pages or frames, and only the first is read; `pages: all` in a recipe reads all",
    "16-bit colour": "images have 16-bit colour and are reduced to 8 bits by the high byte, whatever `window` says",
    "extra channels": "images have channels beside grey, colour and alpha, which are dropped",
    "transparent": "images have transparent pixels, which are laid over the recipe's `background`",
    "outside window": "images have values outside the recipe's `window`, which become black or white",
    "one grey": "images use less than 1 % of the recipe's `window` and become one grey; whole numbers and floats can "
    "have windows of their own, such as `window: {integer: [0, 4095], float: [0, 1]}`",
    "empty mask": "masks are empty: they keep no pixel",
    "mask pages": "masks have further pages or frames, and only the first is read",
    "mask alpha": "masks are taken from the alpha channel, as the colours of their files are all the same",
    "warning": "images made the decoder warn",
}
"""Kinds of remarks, in words that follow a number of images."""

Remarks = dict[str, str]
"""Kinds of remarks about one image, and details such as `20 pages`; empty details are possible."""


class _Collector(logging.Handler):
    def __init__(self, texts: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def heard(remarks: Remarks) -> Iterator[None]:
    """Add the first warning that Pillow gives meanwhile to `remarks`. None of them is printed."""
    logger = logging.getLogger("PIL")
    texts: list[str] = []
    collector, propagated = _Collector(texts), logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        logger.propagate = propagated
        logger.removeHandler(collector)
    from PIL.Image import DecompressionBombWarning  # `max_pixels` of the recipe decides about these

    texts += [str(w.message) for w in caught if not issubclass(w.category, DecompressionBombWarning)]
    if texts:
        remarks["warning"] = (texts[0].splitlines() or ["no text"])[0][:120]
