"""List the files of a folder safely: every file is either a candidate or left out for a stated reason."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path

from medvq.errors import MedvqError, NotFoundError
from medvq.shards.image.sniff import IMAGE_SUFFIXES, sniff
from medvq.shards.source.base import Left, Listing, SourceEntry

JUNK = frozenset({"thumbs.db", "desktop.ini", "icon\r", "ehthumbs.db"})
"""Files that file managers leave behind."""


def scan(
    source: Path, *, ignore: Collection[str] = (), exclude: Collection[Path] = (), links: Collection[str] = ()
) -> Listing:
    """List all files below a folder, sorted by path.

    Args:
        source: the folder.
        ignore: globs of paths or names that are no part of the dataset.
        exclude: folders that are no part of the source, such as the dataset that is being written.
        links: folders into which links may lead, relative to `source` or absolute. Links to files of the source are
            read without this, other links are ignored, with a note.

    Raises:
        NotFoundError: `source` is not a folder.
        MedvqError: `source` cannot be listed.
    """
    if not source.exists():
        raise NotFoundError("no such source", where=str(source), hint="give the folder that holds the images")
    root = os.path.realpath(source)
    out = Listing()
    _walk(root, ignore, {os.path.realpath(p) for p in exclude}, _Links(root, links), out)
    for rows in (out.images, out.others, out.ignored):
        rows.sort(key=lambda r: r.path)
    paths = [r.path for rows in (out.ignored, out.images, out.others, out.bad) for r in rows] if ignore else []
    out.notes = [*_link_notes(root, out.ignored), *out.notes, *idle_notes(ignore, paths)]
    return out


LEAVES = "a link that leaves the source"


def _link_notes(root: str, ignored: Collection[Left]) -> list[str]:
    """Return a note on links out of the source that are not followed, with the line of a recipe that follows one."""
    leaving = [left.path for left in ignored if left.reason == LEAVES]
    if not leaving:
        return []
    folders = [p for p in leaving if os.path.isdir(os.path.join(root, p))]
    first = (folders or leaving)[0]
    parent = os.path.relpath(os.path.dirname(os.path.realpath(os.path.join(root, first))), root)
    what = f"{len(folders)} linked folders and {len(leaving) - len(folders)} linked files"
    return [
        f"{what} outside of the source are NOT read, such as {printable(first)}; to read what lies in a folder there, "
        f"say in a recipe `links: [{json.dumps(parent)}]`"
    ]


class _Links:
    """Decides which links are followed."""

    def __init__(self, root: str, links: Collection[str]) -> None:
        self.root = root
        self.allowed = [os.path.realpath(os.path.join(root, link)) for link in links]
        self.followed: set[str] = set()

    def leads_into(self, target: str) -> bool:
        """Return whether a path lies in a folder into which links may lead."""
        return any((target + "/").startswith(folder.rstrip("/") + "/") for folder in self.allowed)

    def follows(self, target: str, here: str) -> bool:
        """Return whether to read the folder `target` that a link in `here` leads to. It is read once, and no circle."""
        above = (os.path.realpath(here) + "/").startswith(target.rstrip("/") + "/")
        if above or target in self.followed or (self.root + "/").startswith(target.rstrip("/") + "/"):
            return False
        self.followed.add(target)
        return True


def idle_notes(ignore: Collection[str], paths: Collection[str]) -> list[str]:
    """Return a note for every glob of the recipe's `ignore` that matches none of `paths`."""
    idle = [g for g in ignore if not any(_fits(p, g) for p in paths)]
    return [f"the recipe ignores {glob}, and there is no such file" for glob in idle]


def _walk(root: str, ignore: Collection[str], exclude: set[str], links: _Links, out: Listing) -> None:
    # A stack, not recursion: a tree may be deeper than Python's limit on recursion.
    todo = [""]
    while todo:
        prefix = todo.pop()
        below = _list(prefix, root, ignore, links, out)
        todo += [p for p in reversed(below) if os.path.join(root, p[:-1]) not in exclude]


def _list(prefix: str, root: str, ignore: Collection[str], links: _Links, out: Listing) -> list[str]:
    """Add what is in one folder to `out`, and return the prefixes of its subfolders."""
    below = []
    try:
        entries = sorted(os.scandir(os.path.join(root, prefix)), key=lambda e: e.name)
    except OSError as e:
        if not prefix:
            raise MedvqError(f"cannot list the source: {e.strerror}", where=root) from e
        out.bad.append(Left(prefix.rstrip("/"), f"the folder cannot be listed: {e.strerror}"))
        return []
    if not entries and prefix:
        out.notes.append(f"{printable(prefix)} is an empty folder")
    for entry in entries:
        path = prefix + entry.name
        if entry.is_symlink():
            below += _link(entry, path, ignore, links, out)
        elif entry.is_dir(follow_symlinks=False):
            below.append(path + "/")
        else:
            _file(entry, path, ignore, out)
    return below


def _link(entry: os.DirEntry[str], path: str, ignore: Collection[str], links: _Links, out: Listing) -> list[str]:
    """Add a link to `out`, or return its prefix in a list if it leads to a folder that is to be read."""
    target, root = os.path.realpath(entry.path), links.root
    if not os.path.exists(target):
        out.ignored.append(Left(path, "a link that leads nowhere"))
    elif os.path.isdir(target) and links.leads_into(target) and reason_to_ignore(path, ignore) is None:
        if links.follows(target, os.path.dirname(entry.path)):
            return [path + "/"]
        out.ignored.append(Left(path, "a link to a folder that is read already"))
    elif not links.leads_into(target) and not (target + "/").startswith(root.rstrip("/") + "/"):
        out.ignored.append(Left(path, LEAVES))
    elif os.path.isdir(target):
        out.ignored.append(Left(path, "a link to a folder of the source"))
    else:
        _file(entry, path, ignore, out)
    return []


def _file(entry: os.DirEntry[str], path: str, ignore: Collection[str], out: Listing) -> None:
    reason = reason_to_ignore(path, ignore)
    info, trouble = None, None
    try:
        path.encode()
        info = entry.stat()
    except UnicodeEncodeError:
        trouble = "the name is not UTF-8"
    except OSError as e:
        trouble = f"cannot be read: {e.strerror}"
    if info is not None and not stat.S_ISREG(info.st_mode):
        reason = reason or "not a regular file"
    if reason or info is None:
        rows = out.bad if reason is None and _is_named_image(path) else out.ignored
        rows.append(Left(printable(path) if info is None else path, reason or trouble or ""))
        return
    found = SourceEntry(path, info.st_size, info.st_mtime_ns)
    (out.images if _is_named_image(path) or _looks_like_image(entry.path) else out.others).append(found)


def _is_named_image(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def reason_to_ignore(path: str, ignore: Collection[str]) -> str | None:
    """Return why a file is no part of a dataset: it is hidden, junk, or matches a glob of `ignore`; else None."""
    if path.startswith(".") or "/." in path:
        return "hidden"
    name = path.rpartition("/")[2]
    if name.lower() in JUNK or "__MACOSX" in path.split("/"):
        return "left by a file manager"
    glob = next((g for g in ignore if _fits(path, g)), None)
    return f"the recipe ignores {glob}" if glob else None


def _fits(path: str, glob: str) -> bool:
    return fnmatch(path, glob) or fnmatch(path.rpartition("/")[2], glob)


def _looks_like_image(path: str) -> bool:
    try:
        with open(path, "rb") as f:
            return sniff(f.read(64)) is not None
    except OSError:
        return False


def printable(path: str) -> str:
    """Return a path for messages: bytes that are not UTF-8 and line breaks are escaped."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\n", "\\n")
