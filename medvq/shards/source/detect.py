"""Detect the layout of a folder from its paths, if no recipe gives it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from medvq.errors import UsageError
from medvq.shards.source.mask_folders import MaskFolder, file_pattern, mask_folders, refuse_several
from medvq.shards.source.patterns import SPLIT_WORDS, compile_pattern, stem

DATA_WORDS = frozenset({"data", "image", "images", "img", "imgs"})
MASK_WORDS = frozenset({"mask", "masks", "label_masks", "segmentation", "segmentations", "groundtruth", "gt"})
NUMBER = r"(?:[_-]?\d+)?"
MASK_ENDS = "mask|seg|segmentation|gt|groundtruth|ground_truth|label|labels|anno|annotation|manual|1stHO|2ndHO"
MASK_END = re.compile(rf"(.+)([_-](?:{MASK_ENDS}){NUMBER})", re.IGNORECASE | re.DOTALL)
"""How the stem of a mask ends if it is not that of its image. A number distinguishes several masks of one image."""


@dataclass(frozen=True)
class Layout:
    """The detected layout of a folder."""

    images: str
    masks: str | None
    about: str
    """In words."""
    beside: frozenset[str] = frozenset()
    """Paths that are named as the mask of an image beside them, such as `x_mask.png` beside `x.jpg`."""
    alone: frozenset[str] = frozenset()
    """Paths that are named as masks and have no such image, in a folder where most of these names have one."""
    doubtful: frozenset[str] = frozenset()
    """Paths that are named as masks, in a folder where most of these names have no such image. They count as images."""


def detect(paths: Sequence[str]) -> Layout:
    """Return the layout that most of the images have.

    Args:
        paths: paths of the images relative to the folder, with `/`.

    Raises:
        UsageError: the layout is not clear, or several folders look like masks. The hint proposes patterns.
    """
    pairs = [p for p in mask_folders(paths) if not _is_usual(p)]
    if not pairs:
        return _detect(paths)
    pairs = mask_folders(paths)
    refuse_several(pairs, paths)
    (pair,) = pairs
    # The layout is that of the same tree with the usual names.
    found = _detect([_with_folder(p, pair.depth, {pair.images: "images", pair.masks: "masks"}) for p in paths])
    if found.masks is None:
        return _detect(paths)
    ends = (found.images, pair.images, pair.image_end), (found.masks, pair.masks, pair.mask_end)
    images, masks = (
        _with_folder(pattern, pair.depth, {"images": folder, "masks": folder}).rpartition("/")[0]
        + "/"
        + file_pattern(end, exact=bool(pair.image_end or pair.mask_end))
        for pattern, folder, end in ends
    )
    about = f"{found.about.partition(',')[0]}, masks in {pair.masks} beside {pair.images}"
    return Layout(images, masks, about)


def _is_usual(pair: MaskFolder) -> bool:
    """Return whether the layout of these folders is known by their names alone."""
    ends = not pair.image_end and (not pair.mask_end or MASK_END.fullmatch("x" + pair.mask_end))
    return bool(ends) and pair.images.lower() in DATA_WORDS and pair.masks.lower() in MASK_WORDS


def _with_folder(path: str, depth: int, names: Mapping[str, str]) -> str:
    """Return a path with the folder at `depth` renamed, if it has one of the names."""
    parts = path.split("/")
    if depth < len(parts) - 1:
        parts[depth] = names.get(parts[depth], parts[depth])
    return "/".join(parts)


def _detect(paths: Sequence[str]) -> Layout:
    """Return the layout by the names of folders, as `detect`."""
    beside, alone, doubtful = _beside(paths)
    paths = [p for p in paths if p not in beside]
    prefix = _wrapper(paths)
    parts = [p[len(prefix) :].split("/") for p in paths]
    literal = "/".join("{*}" if {"{", "}"} & set(folder) else folder for folder in prefix.split("/"))
    shapes: Counter[tuple[str, ...]] = Counter(_shape(p) for p in parts)
    masks = {s for s in shapes if "mask" in s and tuple("data" if w == "mask" else w for w in s) in shapes}
    images = Counter({s: n for s, n in shapes.items() if s not in masks})
    shape, n = max(images.items(), key=lambda item: (item[1], -len(item[0])))
    if shape.count("class") > 1 or (n * 2 < images.total() and len(images) > 2):
        shown = ", ".join(sorted({"/".join(["<folder>"] * len(s)) + "/<image>" if s else "<image>" for s in images}))
        raise UsageError(
            f"cannot tell the layout of this tree ({shown})",
            hint=f"write a recipe with `images: {_proposals(literal, images)}` or alike and give it with --recipe; "
            "images that match none of its patterns are ignored",
        )
    folders = [p for p in parts if _shape(p) == shape]
    if shape == ("class",) and len({p[0] for p in folders}) == 1 and n == images.total():
        only = "{*}" if {"{", "}"} & set(folders[0][0]) else folders[0][0]
        pattern, shape = f"{literal}{only}/{{name}}", ()
    else:
        pattern = literal + _pattern(shape, folders)
    mask_shape, mask_pattern, where = tuple("mask" if w == "data" else w for w in shape), None, ""
    if mask_shape in masks:
        files = [p for p in parts if _shape(p) == mask_shape]
        end = _common_end([f[-1] for f in files], {stem(f[-1]) for f in folders})
        mask_pattern, where = literal + _pattern(mask_shape, files), ", masks in a parallel tree"
        mask_pattern = _named(mask_pattern, end, [prefix + "/".join(f) for f in files])
    elif beside:
        mask_pattern, where = _named(pattern, _ends(sorted(beside)), [*beside, *paths]), ", masks beside the images"
    return Layout(pattern, mask_pattern, _in_words(shape) + where, beside, alone, doubtful)


def _beside(paths: Sequence[str]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return `Layout.beside`, `Layout.alone` and `Layout.doubtful`."""
    ends = [(p, match) for p in paths if (match := MASK_END.fullmatch(stem(p)))]
    ends = [(p, match) for p, match in ends if not MASK_WORDS & set(p.lower().split("/")[:-1])]
    stems = {p.rpartition("/")[0] + "/" + stem(p) for p in paths} if ends else set()
    found = frozenset(p for p, match in ends if p.rpartition("/")[0] + "/" + match[1] in stems)
    none: frozenset[str] = frozenset()
    return (
        (found, none.union(p for p, _ in ends) - found, none)
        if 3 * len(found) >= 2 * len(ends)
        else (none, none, found)
    )


def _common_end(names: Sequence[str], images: Collection[str]) -> Counter[str]:
    """Count what masks of a parallel tree append to the stem of their image; empty if most append nothing."""
    ends = _ends([n for n in names if (m := MASK_END.fullmatch(stem(n))) and m[1] in images])
    return ends if max(ends.values(), default=0) > sum(stem(name) in images for name in names) else Counter()


def _ends(names: Sequence[str]) -> Counter[str]:
    return Counter(match[2] for n in names if (match := MASK_END.fullmatch(stem(n))))


def _named(pattern: str, ends: Counter[str], paths: Sequence[str]) -> str:
    """Return `pattern` with the most common mask suffix of `ends` behind `{id}`.

    If the suffixes differ in a number only, the pattern matches any number, unless it would match another path.
    """
    if not ends:
        return pattern
    head, end = pattern.removesuffix("{name}") + "{id}", ends.most_common(1)[0][0]
    base = re.sub(NUMBER + r"$", "", end)
    numbered = head + base + "{*}.{ext}"
    if sum(bool(re.fullmatch(re.escape(base) + NUMBER, e)) for e in ends) > 1:
        fitting = [(stem(p), fields["id"]) for p in paths if (fields := compile_pattern(numbered).match(p))]
        if all((match := MASK_END.fullmatch(name)) and match[1] == id_ for name, id_ in fitting):
            return numbered
    return head + end + ".{ext}"


def _wrapper(paths: Sequence[str]) -> str:
    """Return the path of the folders that hold all images and say nothing about them."""
    prefix = ""
    while True:
        heads = Counter(p[len(prefix) :].split("/", 1)[0] for p in paths)
        head = next(iter(heads))
        below = {p[len(prefix) :].count("/") for p in paths}
        if (
            len(heads) > 1
            or min(below) < 2
            or head.lower() in SPLIT_WORDS
            or head.lower() in MASK_WORDS | DATA_WORDS - {"images"}
        ):
            return prefix
        prefix += head + "/"


def _shape(parts: Sequence[str]) -> tuple[str, ...]:
    out: list[str] = []
    for folder in parts[:-1]:
        word = folder.lower()
        if word in SPLIT_WORDS and "split" not in out:
            out.append("split")
        elif word in DATA_WORDS and "data" not in out and "mask" not in out:
            out.append("data")
        elif word in MASK_WORDS and "data" not in out and "mask" not in out:
            out.append("mask")
        else:
            out.append("class")
    return tuple(out)


def _pattern(shape: tuple[str, ...], folders: list[list[str]]) -> str:
    pieces = []
    for i, word in enumerate(shape):
        if word in ("data", "mask"):
            names = {p[i] for p in folders}
            pieces.append(names.pop() if len(names) == 1 else "{*}")
        else:
            pieces.append(f"{{{word}}}")
    return "/".join([*pieces, "{name}"])


def _proposal(shape: tuple[str, ...]) -> str:
    """Return a pattern to propose for a tree of this shape. A second unnamed folder is taken for a patient."""
    fields = {"split": iter(["{split}"]), "class": iter(["{class}", "{group}"])}
    return "/".join([*(next(fields.get(word, iter(())), "{*}") for word in shape), "{name}"])


def _proposals(literal: str, shapes: Counter[tuple[str, ...]]) -> str:
    """Return patterns to propose for trees of these shapes, as YAML."""
    texts = [f'"{literal}{_proposal(shape)}"' for shape, _ in shapes.most_common()]
    return texts[0] if len(texts) == 1 else f"[{', '.join(dict.fromkeys(texts))}]"


def _in_words(shape: tuple[str, ...]) -> str:
    return {
        (): "one flat folder of images, no labels",
        ("class",): "class folders",
        ("split",): "split folders, no labels",
        ("split", "class"): "split folders with class folders",
        ("class", "split"): "class folders with split folders",
        ("data",): "a flat folder of images, no labels",
        ("data", "class"): "class folders",
        ("split", "data"): "split folders, no labels",
        ("split", "data", "class"): "split folders with class folders (course layout)",
    }.get(shape, "folders: " + "/".join(shape))
