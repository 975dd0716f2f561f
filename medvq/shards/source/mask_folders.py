"""Recognise folders of masks beside folders of images by their names and by the names of their files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from posixpath import commonprefix

from medvq.errors import UsageError
from medvq.shards.source.patterns import SPLIT_WORDS, stem

MASKS = frozenset({
    "anno", "annotated", "annotation", "annotations", "contour", "contours", "groundtruth", "gt", "label",
    "labelmap", "labels", "manual", "mask", "masks", "matte", "mattes", "seg", "segmentation", "segmentations",
    "segmented", "segs", "trimap", "trimaps", "truth",
})  # fmt: skip
"""Words in the names of folders of masks."""
FILLERS = frozenset({
    "1st", "2nd", "binary", "class", "data", "first", "ground", "image", "images", "img", "imgs", "instance",
    "left", "lesion", "lung", "object", "png", "right", "second", "test", "testing", "tr", "train", "training",
    "ts", "va", "val", "validation",
})  # fmt: skip
"""Words that may stand beside them."""
SURE = 0.8
"""Share of the files of a folder whose names must belong to images, for the folder to hold masks."""


@dataclass(frozen=True)
class MaskFolder:
    """A folder of masks beside a folder of images."""

    depth: int
    """Position of both names in a path; 0 is the first folder."""
    images: str
    masks: str
    image_end: str
    """What the stem of an image has behind the id that it shares with its mask."""
    mask_end: str
    """What the stem of a mask has behind this id."""


def mask_folders(paths: Sequence[str]) -> list[MaskFolder]:
    """Return the folders whose files are named as masks of the images in a folder beside them."""
    files: dict[tuple[int, tuple[str, ...], tuple[str, ...]], dict[str, set[str]]] = defaultdict(dict)
    for path in paths:
        *folders, name = path.split("/")
        for i, folder in enumerate(folders):
            beside = files[i, tuple(folders[:i]), tuple(folders[i + 1 :])]
            beside.setdefault(folder, set()).add(stem(name))
    ends: dict[tuple[int, str, str], set[tuple[str, str]]] = defaultdict(set)
    fitting: Counter[tuple[int, str, str]] = Counter()
    totals: Counter[tuple[int, str, str]] = Counter()
    for (depth, _, _), beside in files.items():
        for masks in [name for name in beside if MASKS.intersection(_words(name))]:
            for images in beside:
                if masks == images or not _named_as_masks(masks, images) or _named_as_masks(images, ""):
                    continue
                pair = (depth, images, masks)
                totals[pair] += len(beside[masks])
                if counts := _ends(beside[images], beside[masks]):
                    end, n = counts.most_common(1)[0]
                    ends[pair].add(end)
                    fitting[pair] += n
    return [
        MaskFolder(*pair, _common(i for i, _ in found), _common(m for _, m in found))
        for pair, found in ends.items()
        if fitting[pair] >= SURE * totals[pair]
    ]


def _common(ends: Iterable[str]) -> str:
    """Return the end of all names; `_{*}` and the like if they differ, as `_training` and `_test` do."""
    found = sorted(set(ends))
    if len(found) == 1:
        return found[0]
    same = commonprefix(found)
    return same.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") + "{*}"


def refuse_several(found: Sequence[MaskFolder], paths: Sequence[str]) -> None:
    """Raise UsageError if there are several folders of masks or of images. The hint has the recipes for each.

    Args:
        found: pairs of folders.
        paths: all images and masks.
    """
    if len(found) < 2:
        return
    lines = []
    for pair in found:
        example = next(p for p in paths if pair.images in p.split("/")[:-1])
        lines += [
            f'images: "{pattern_of(pair, example, "images")}"',
            f'masks: "{pattern_of(pair, example, "masks")}"    # too',
        ]
    masks, images = (sorted({getattr(p, what) for p in found}) for what in ("masks", "images"))
    raise UsageError(
        f"{' and '.join(masks)} look like masks of the images in {' and '.join(images)}, and one mask each is used",
        hint="say which in a recipe, with two of these lines:\n" + "\n".join(f"    {line}" for line in lines),
    )


def pattern_of(pair: MaskFolder, example: str, what: str) -> str:
    """Return a pattern of paths like `example` for the `images` or the `masks` of a pair of folders."""
    folders = example.split("/")[:-1]
    out = ["{split}" if f.lower() in SPLIT_WORDS else "{class}" if i > pair.depth else f for i, f in enumerate(folders)]
    out[pair.depth] = getattr(pair, what)
    return "/".join([*out, file_pattern(pair.image_end if what == "images" else pair.mask_end, exact=True)])


def file_pattern(end: str, *, exact: bool) -> str:
    """Return the pattern of a file name whose stem has `end` behind its id."""
    return f"{{id}}{end}.{{ext}}" if end or exact else "{name}"


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[a-z0-9]+", spaced.lower())


def _named_as_masks(masks: str, images: str) -> bool:
    """Return whether the words that `masks` has and `images` lacks say that it holds masks."""
    words = [w for w in _words(masks) if w not in _words(images)]
    return any(w in MASKS for w in words) and all(w in MASKS or w in FILLERS for w in words)


def _ends(images: set[str], masks: set[str]) -> Counter[tuple[str, str]]:
    """Count what stands behind the common start of a mask's stem and of the most similar image's."""
    out: Counter[tuple[str, str]] = Counter()
    ordered = sorted(images)
    by_start: dict[str, list[str]] = defaultdict(list)
    for name in ordered:
        parts = re.split(r"(?<=[A-Za-z0-9])(?=[_\- .])", name)
        for n in range(1, len(parts) + 1):
            by_start["".join(parts[:n])].append(name)
    for mask in masks:
        parts = re.split(r"(?<=[A-Za-z0-9])(?=[_\- .])", mask)
        for n in range(len(parts), 0, -1):
            start = "".join(parts[:n])
            if same := by_start.get(start):
                best = min(same, key=len)
                if len(same) == 1 or best == start:
                    out[best[len(start) :], mask[len(start) :]] += 1
                break
    return out
