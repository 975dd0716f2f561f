"""Compare names that look the same: case, blanks, invisible characters, letters of other alphabets, zeros."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from medvq.shards.source.patterns import nfc

_FROM = "АВЕКМНОРСТХІЈЅаеорсухіјѕһΑΒΕΖΗΙΚΜΝΟΡΤΥΧοӏ"
_TO = "ABEKMHOPCTXIJSaeopcyxijshABEZHIKMNOPTYXol"
LOOKS = str.maketrans(_FROM, _TO)
"""Cyrillic and Greek letters, and the Latin ones that look the same."""


def visible(text: str) -> str:
    """Return text in NFC without characters that have no width, such as U+200B."""
    return nfc(text) if text.isascii() else "".join(c for c in nfc(text) if unicodedata.category(c) != "Cf")


def one_blank(text: str) -> str:
    """Return text without blanks around it and with one in place of several."""
    return " ".join(text.split())


def fold(text: str) -> str:
    """Return the form in which spellings of a class are compared: lower case, runs of blanks, `_`, `-` as `_`."""
    return re.sub(r"[\s_-]+", "_", visible(text).casefold().strip())


def look(text: str) -> str:
    """Return the same text for names that look the same but for case and blanks."""
    if text.isascii():
        return one_blank(text.casefold())
    return one_blank(unicodedata.normalize("NFKC", visible(text)).translate(LOOKS).casefold())


def group_key(text: str) -> str:
    """Return the same text for spellings of one patient: `7`, `007` and `7.0`, `P 1` and `p_01`."""
    plain = re.sub(r"[\s_-]+", "_", look(text))
    plain = re.sub(r"^(\d+)\.0+$", r"\1", plain)
    return re.sub(r"_?0*(\d+)", r"_\1", plain).strip("_")


def written_in_several_ways(groups: Iterable[str]) -> list[list[str]]:
    """Return the groups of which several have the same `group_key`, as sorted lists."""
    by_key: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        by_key[group_key(group)].add(group)
    return sorted(sorted(same) for same in by_key.values() if len(same) > 1)
