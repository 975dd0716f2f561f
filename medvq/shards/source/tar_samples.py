"""Group the members of a tar shard into samples by the WebDataset convention, and read what a sample says of itself.

A member `KEY.SUFFIX` belongs to the sample KEY, where SUFFIX begins at the first dot of the file's name. This is the
rule of the webdataset package (`webdataset.tariterators.base_plus_ext`), which is not imported here as it takes torch
with it, which needs seconds.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medvq.shards.image.sniff import IMAGE_SUFFIXES
from medvq.shards.source.detect import MASK_END
from medvq.shards.source.tar_index import TarMember

IMAGES = IMAGE_SUFFIXES | {".npy"}
MASK_WORDS = frozenset({"mask", "masks", "seg", "segmentation"})
"""A suffix with one of these words, such as `mask.png` or `seg.png`, is that of a mask."""
CLASS_KEYS, GROUP_KEYS = ("class", "label"), ("group", "patient")
"""Keys of a sample's JSON that tell its class and its group if the recipe names none."""
LARGEST_TEXT = 1 << 24
"""Bytes that a `cls` or `json` member may have."""
_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)


def key_and_suffix(name: str) -> tuple[str, str] | None:
    """Return key and lower-case suffix of a member; None if it belongs to no sample."""
    found = _NAME.fullmatch(name)
    return (found[1], found[2].lower()) if found else None


@dataclass
class TarSample:
    """The members of one key."""

    key: str
    images: list[TarMember] = field(default_factory=list)
    masks: list[TarMember] = field(default_factory=list)
    cls: list[TarMember] = field(default_factory=list)
    json: list[TarMember] = field(default_factory=list)
    others: list[TarMember] = field(default_factory=list)
    """Members that are not read."""

    def add(self, member: TarMember, suffix: str) -> None:
        """Sort a member in by its suffix."""
        *words, end = suffix.split(".")
        if suffix == "cls":
            self.cls.append(member)
        elif suffix == "json":
            self.json.append(member)
        elif f".{end}" not in IMAGES:
            self.others.append(member)
        elif {re.sub(r"\d+$", "", part) for word in words for part in re.split("[_-]", word)} & MASK_WORDS:
            self.masks.append(member)
        else:
            self.images.append(member)

    def choose(self) -> None:
        """Keep only images with a plain suffix, if there are any: `x.jpg`, not `x.depth.png` or `x.embedding.npy`."""
        plain = [m for m in self.images if m.name.removeprefix(self.key).count(".") == 1]
        if plain:
            self.others += [m for m in self.images if m not in plain]
            self.images = plain

    def problem(self, *, several: bool = False) -> str | None:
        """Return why it cannot be told which members make the sample, if so.

        Args:
            several: whether the sample may have several images, of which the recipe's patterns choose.
        """
        names = [m.name for m in (*self.images, *self.masks, *self.cls, *self.json)]
        twice = [n for n, count in Counter(names).items() if count > 1]
        if twice:
            return f"several members of the shard are called {twice[0]}"
        for what, members in (("images", [] if several else self.images), ("masks", self.masks), ("cls", self.cls)):
            if len(members) > 1:
                return f"its key has several {what}: {', '.join(m.name for m in members)}"
        return None


def group_members(members: Iterable[TarMember]) -> tuple[list[TarSample], list[TarMember]]:
    """Return the samples in the order of their first members, and the members that belong to no sample."""
    samples: dict[str, TarSample] = {}
    strangers = []
    for member in members:
        split = key_and_suffix(member.name)
        if split is None:
            strangers.append(member)
        else:
            samples.setdefault(split[0], TarSample(split[0])).add(member, split[1])
    return list(samples.values()), strangers


def take_masks_beside(samples: list[TarSample]) -> list[TarSample]:
    """Give `x_mask.png` to the sample `x`, as in a folder, and return the samples without those of such masks."""
    known = {s.key: s for s in samples if s.images}
    out = []
    for sample in samples:
        end = MASK_END.fullmatch(sample.key)
        if end and end[1] in known and sample.images and not (sample.cls or sample.json):
            known[end[1]].masks += sample.images + sample.masks
        else:
            out.append(sample)
    return out


@dataclass
class Stated:
    """What the members `cls` and `json` of a sample say about it."""

    number: int | None = None
    """The number of its class."""
    name: str | None = None
    """The name of its class."""
    split: str | None = None
    id: str | None = None
    groups: dict[str, str] = field(default_factory=dict)
    """Values of the keys that may tell its group."""
    keys: frozenset[str] = frozenset()
    """All keys of its JSON."""
    problem: str | None = None
    """Why this cannot be understood."""


def stated_by(cls: bytes | None, facts: bytes | None, names: Mapping[Any, str | None]) -> Stated:
    """Read the members `cls` and `json` of a sample.

    Args:
        cls: a whole number or a name.
        facts: a JSON object; any other JSON value says nothing.
        names: `metadata` of the recipe. The keys under which the JSON tells class, split, group and id; null for none.
    """
    out = Stated()
    try:
        found = {} if facts is None else json.loads(facts)
    except (ValueError, RecursionError) as e:
        return Stated(problem=f"its JSON is damaged: {str(e)[:100]}")
    found = found if isinstance(found, dict) else {}
    out.keys = frozenset(found)
    try:
        classes = (
            [] if cls is None or names.get("class") else [("its cls", _number_or_name(cls.decode("utf-8").strip()))]
        )
        for key in _keys("class", CLASS_KEYS, names):
            if (value := _class(found, key)) is not None:
                classes.append((f"{key} in its JSON", value))
        out.split = _text(found, names.get("split", "split"))
        out.id = _text(found, names.get("id"))
        groups = {key: _text(found, key) for key in _keys("group", GROUP_KEYS, names)}
    except UnicodeDecodeError:
        return Stated(problem="its cls is not text")
    except ValueError as e:
        return Stated(problem=str(e))
    out.groups = {key: value for key, value in groups.items() if value is not None}
    numbers = {value for _, value in classes if isinstance(value, int)}
    texts = {value for _, value in classes if isinstance(value, str)}
    if len(numbers) > 1 or len(texts) > 1:
        out.problem = "two labels: " + " and ".join(f"{value} by {key}" for key, value in classes)
    out.number, out.name = next(iter(numbers), None), next(iter(texts), None)
    return out


def _keys(what: str, usual: tuple[str, ...], names: Mapping[Any, str | None]) -> tuple[str, ...]:
    if what not in names:
        return usual
    return () if names[what] is None else (str(names[what]),)


def _number_or_name(text: str) -> int | str:
    if not text:
        raise ValueError("its cls is empty")
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text


def _class(found: dict[str, Any], key: str) -> int | str | None:
    """Return a class of the JSON; None if it is missing, null or empty.

    Raises:
        ValueError: it is neither text nor a whole number.
    """
    value = found.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if not isinstance(value, str):
        hint = "name another key in a recipe, `metadata: {class: KEY}`, or null for none"
        raise ValueError(f"{key} in its JSON is neither text nor a whole number: {hint}")
    return _clean(value, key)


def _text(found: dict[str, Any], key: str | None) -> str | None:
    """Return a value of the JSON as text; None if it is missing, null or empty.

    Raises:
        ValueError: it is neither text nor a number.
    """
    value = None if key is None else found.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{key} in its JSON is neither text nor a number")
    return _clean(str(value), str(key))


def _clean(text: str, key: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{key} in its JSON is not valid Unicode") from None
    return text.strip() or None
