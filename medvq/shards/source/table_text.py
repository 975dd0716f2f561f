"""Decode the text of a table: find its encoding where the bytes prove it, and ask where they do not."""

from __future__ import annotations

import re
import unicodedata

from medvq.errors import DataError, UsageError

ENCODINGS = ("cp1251", "gb18030", "cp1252", "shift_jis", "euc_kr", "cp1250", "cp1253")
"""Encodings that are proposed for a table that is neither UTF-8 nor UTF-16."""
SHOWN = 4
"""Number of encodings that a message proposes."""
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
"""Characters without width. They are removed from both ends of names and values."""


class EncodingError(UsageError):
    """The bytes of a table do not prove its encoding (exit 2)."""

    def __init__(self, where: str, candidates: list[str], raw: bytes) -> None:
        self.candidates = candidates
        lines = [f"    encoding: {name}    # reads {_first_word(raw.decode(name))}" for name in candidates[:SHOWN]]
        hint = "say in the recipe's entry of `tables` which one it is:\n" + "\n".join(lines)
        if not lines:
            hint = "save it as UTF-8"
        super().__init__("the encoding of the table is unknown: it is not UTF-8", where=where, hint=hint)


def decode_text(raw: bytes, where: str, encoding: str | None = None) -> str:
    """Return the text of a file.

    Args:
        raw: its bytes.
        where: its path, for messages.
        encoding: its encoding; None: UTF-8, UTF-16 with or without a byte order mark, or Windows-1252 if every
            character outside ASCII is a letter or a sign of Western Europe within such words.

    Raises:
        DataError: it is not text of `encoding`.
        EncodingError: the encoding is not given, and the bytes do not prove it.
    """
    if encoding is not None:
        try:
            return raw.decode(encoding).removeprefix("\ufeff")
        except UnicodeError as e:
            raise DataError(
                f"the table is not {encoding}: byte {getattr(e, 'start', 0)} does not fit",
                where=where,
                hint="leave `encoding` out of the recipe, and the encodings that fit are listed",
            ) from e
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace")
    if wide := _utf16_without_mark(raw):
        return raw.decode(wide)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    for name in ("cp1252", "latin-1"):
        text = _decoded(raw, name)
        if text is not None and _is_western(text):
            return text
    raise EncodingError(where, [n for n in ENCODINGS if _is_plausible(_decoded(raw, n))], raw)


def _utf16_without_mark(raw: bytes) -> str | None:
    """Return the UTF-16 encoding of text without a byte order mark; None if it is something else.

    Commas and line ends have a zero byte there, always on the same side.
    """
    if len(raw) % 2 or b"\0" not in raw:
        return None
    for name, zeros, others in (("utf-16-le", raw[1::2], raw[::2]), ("utf-16-be", raw[::2], raw[1::2])):
        text = _decoded(raw, name) if zeros.count(0) and not others.count(0) else None
        if text is not None and "\n" in text and not CONTROL.search(text):
            return name
    return None


def _decoded(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeError:
        return None


def _is_plausible(text: str | None) -> bool:
    """Return whether text has no control characters, and mostly letters outside ASCII."""
    if text is None or CONTROL.search(text):
        return False
    odd = "".join(NOT_ASCII.findall(text))
    return 2 * sum(unicodedata.category(c).startswith("L") for c in odd) > len(odd)


def _is_western(text: str) -> bool:
    """Return whether every run of characters outside ASCII is one sign, or few letters of a word that has others."""
    if CONTROL.search(text):
        return False
    for run in NOT_ASCII.finditer(text):
        letters = all(unicodedata.name(c, "").startswith("LATIN") for c in run[0])
        around = text[max(0, run.start() - 1) : run.start()] + text[run.end() : run.end() + 1]
        if len(run[0]) > 2 or (len(run[0]) == 2 and not (letters and any(c.isalpha() for c in around))):
            return False
    return True


def _first_word(text: str) -> str:
    """Return the first word with a character outside ASCII."""
    return next((w for w in re.split(r"[,;\t|\r\n\"]+", text) if NOT_ASCII.search(w)), "")[:40]
