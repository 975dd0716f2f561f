"""Path patterns such as `{split}/data/{class}/{name}`: what a path says about its image."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

WILD = {"*": "[^/]*", "**": ".*", "ext": "[^/.]+", "id": "[^/]+?", "name": "[^/]+"}
"""Regular expressions of fields. A field that is not listed matches the name of one folder, or a part of it."""
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""Usual names of splits in lower case, and the names that medvq gives them."""


@dataclass(frozen=True)
class Pattern:
    """A compiled path pattern."""

    text: str
    regex: re.Pattern[str]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the fields of `path`, or None if it does not match. Without `{id}`, `id` is the stem of the name."""
        found = self.regex.fullmatch(path)
        if not found:
            return None
        fields = {k: v for k, v in found.groupdict().items() if v is not None}
        if "id" not in fields:
            fields["id"] = stem(path)
        return fields


@cache
def compile_pattern(text: str) -> Pattern:
    """Compile a path pattern. A field that occurs twice must match the same text both times."""
    out, seen = [], set()
    for literal, name in re.findall(r"([^{}]+)|\{([^{}]*)\}", text):
        if literal:
            out.append(re.escape(literal))
        elif name in ("*", "**"):
            out.append(WILD[name])
        elif name in seen:
            out.append(f"(?P={name})")
        else:
            seen.add(name)
            out.append(f"(?P<{name}>{WILD.get(name, '[^/]+?')})")
    return Pattern(text, re.compile("".join(out), re.DOTALL))


def nfc(text: str) -> str:
    """Return text in NFC, the form in which names are compared, as files and tables may encode accents differently."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def stem(path: str) -> str:
    """Return the name of a file without its last extension."""
    name = path.rsplit("/", 1)[-1]
    head, dot, _ = name.rpartition(".")
    return head if dot and head else name


def ending(path: str) -> str:
    """Return the suffix of a file in lower case, with the one before `.gz`, such as `.nii.gz`."""
    suffixes = re.findall(r"(?<=.)\.[^./ ]+", path.rsplit("/", 1)[-1].lower())
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])
