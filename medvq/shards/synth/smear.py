"""A synthetic blood smear as a tree of images: the data of the quickstart, of smoke runs and of tests.

Layout (of the Raabin-WBC course release), patients apart between splits, masks for a tenth of the training images:

    DEST/<train|val|test>/data/<class>/<PATIENT>_<NNNN>.png    RGB
    DEST/train/mask/<class>/<PATIENT>_<NNNN>.png               grey: 0 background, 128 cytoplasm, 255 nucleus
    DEST/patients.csv  DEST/README.txt
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvq.errors import MedvqError, UsageError
from medvq.keys import sha256_of

REVISION = 1
"""Increased whenever the pixels or the plan change."""
SHARES = {"basophil": 0.025, "eosinophil": 0.08, "lymphocyte": 0.225, "monocyte": 0.07, "neutrophil": 0.60}
"""Approximately the shares of Raabin-WBC; rare classes are a little more frequent."""
SPLITS = {"train": 0.7, "val": 0.15, "test": 0.15}
SMALLEST, LARGEST = 30, 1_000_000
IMAGES_OF_A_PATIENT = 30

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of the plan."""

    index: int
    split: str
    cell: str
    patient: str
    mask: bool

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of files that it has."""
        return ("data", "mask") if self.mask else ("data",)

    def path(self, kind: str) -> str:
        """Return the path of the image (`data`) or its mask (`mask`) under DEST."""
        return f"{self.split}/{kind}/{self.cell}/{self.patient}_{self.index:04d}.png"


def smear(
    dest: Path,
    *,
    samples: int,
    size: int = 64,
    seed: int = 0,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Draws `samples` images of `size` pixels under `dest`; the bytes are a function of (samples, size, seed) alone.

    The tree appears under its name when it is whole. A drawing that was killed goes on where it was, and a whole tree
    is not drawn again. Returns {dest, samples, size, seed, drawn, patients, splits: {name: {samples, masks, classes}}}.

    Raises:
        UsageError: too few or too many samples, a size out of range, or `dest` holds something else.
        MedvqError: `dest` cannot be written.
    """
    if not SMALLEST <= samples <= LARGEST:
        raise UsageError(f"--samples is {samples}", hint=f"give {SMALLEST} (two a class and split) to {LARGEST}")
    if not 16 <= size <= 2048:
        raise UsageError(f"--size is {size}", hint="give 16 to 2048 pixels")
    images = plan(samples, seed)
    texts = {"README.txt": _readme(samples, size, seed), "patients.csv": _table(images)}
    drawn = 0
    if not _is_whole(dest, images, texts):
        _refuse_other(dest)
        try:
            drawn = len(images) if dry_run else _publish(dest, images, texts, size, seed, progress)
        except OSError as e:
            if not _is_whole(dest, images, texts):  # else another drawing of the same was first
                raise MedvqError(
                    f"cannot write the smear: {e.strerror or e}",
                    where=str(e.filename or dest),
                    hint="choose a folder that can be written and has room; what is drawn is kept and gone on with",
                ) from e
    return {
        "dest": str(dest), "samples": samples, "size": size, "seed": seed, "drawn": drawn,
        "patients": len({i.patient for i in images}),
        "splits": {
            split: {
                "samples": sum(i.split == split for i in images),
                "masks": sum(i.mask for i in images if i.split == split),
                "classes": dict(sorted(Counter(i.cell for i in images if i.split == split).items())),
            }
            for split in SPLITS
        },
    }  # fmt: skip


def plan(samples: int, seed: int) -> list[Image]:
    """Return all images with split, class and patient; each class is in each split twice or more (five from 500)."""
    from medvq.shards.synth.shapes import Stream

    images: list[Image] = []
    first_patient = 1
    floor = min(max(samples // 100, 2), 5)
    for split, wanted in _apportion(samples, SPLITS, floor * len(SHARES)).items():
        patients = max(3, round(wanted / IMAGES_OF_A_PATIENT))
        # Some patients give more images than others, as a product of two uniform draws does.
        product = Stream(seed, "patients", split).uniforms(2 * wanted).reshape(wanted, 2).prod(axis=1)
        draw = iter(product.tolist())
        for cell, count in _apportion(wanted, SHARES, floor).items():
            masks = max(1, (count + 5) // 10) if split == "train" else 0
            for k in range(count):
                patient = f"P{first_patient + int(next(draw) * patients):03d}"
                images.append(Image(index=len(images), split=split, cell=cell, patient=patient, mask=k < masks))
        first_patient += patients
    return images


def _apportion(total: int, shares: dict[str, float], floor: int) -> dict[str, int]:
    """Divide `total` by shares into whole numbers of at least `floor`; the largest share takes the rest."""
    counts = {name: max(int(total * share), floor) for name, share in shares.items()}
    largest = max(shares, key=lambda name: shares[name])
    counts[largest] += total - sum(counts.values())
    return counts


def _readme(samples: int, size: int, seed: int) -> str:
    return (
        "A synthetic blood smear: drawn by a program, of no patient, and of no medical use.\n"
        f"medvq synth smear, revision {REVISION}: {samples} images of {size}x{size} pixels, seed {seed}\n\n"
        "SPLIT/data/CLASS/PATIENT_NUMBER.png  images; a patient is in one split only\n"
        "train/mask/CLASS/PATIENT_NUMBER.png  masks: 0 background, 128 cytoplasm, 255 nucleus\n"
        "patients.csv                         file, patient, split, class\n"
    )


def _table(images: list[Image]) -> str:
    rows = [f"{i.path('data')},{i.patient},{i.split},{i.cell}" for i in images]
    return "\n".join(["file,patient,split,class", *sorted(rows)]) + "\n"


def _is_whole(dest: Path, images: list[Image], texts: dict[str, str]) -> bool:
    """Return whether `dest` is this tree already: its texts are the same, and no image is missing."""
    try:
        return all((dest / name).read_bytes() == text.encode() for name, text in texts.items()) and all(
            (dest / i.path(kind)).is_file() for i in images for kind in i.kinds
        )
    except OSError:
        return False


def _refuse_other(dest: Path) -> None:
    if dest.is_symlink() or (dest.exists() and not dest.is_dir()):
        raise UsageError("it is not a folder", where=str(dest), hint="give the name of a new folder")
    try:
        if dest.is_dir() and any(dest.iterdir()):
            raise UsageError(
                "the folder holds something else than this smear",
                where=str(dest),
                hint="give another folder, or remove this one first",
            )
    except OSError as e:
        raise MedvqError(f"cannot read the folder: {e.strerror}", where=str(dest)) from e


def _publish(
    dest: Path, images: list[Image], texts: dict[str, str], size: int, seed: int, progress: Progress | None
) -> int:
    """Draws into a hidden sibling and renames it; returns how many images were drawn.

    The sibling is named after what is drawn, and every file in it is whole: a second drawing of the same, after a kill
    or beside this one, adds what is missing.
    """
    dest = Path(os.path.abspath(dest))
    part = dest.parent / f".{dest.name}.{sha256_of(texts)[:8]}.part"
    for folder in {(part / i.path(kind)).parent for i in images for kind in i.kinds}:
        folder.mkdir(parents=True, exist_ok=True)
    drawn = 0
    for done, image in enumerate(images):
        drawn += _write(part, image, size, seed)
        if progress is not None:
            progress("draw", done + 1, len(images))
    for name, text in texts.items():
        _put(part / name, text.encode())
    for torn in part.rglob(".*"):
        torn.unlink(missing_ok=True)
    os.rename(part, dest)
    return drawn


def _write(part: Path, image: Image, size: int, seed: int) -> bool:
    """Draws one image and its mask unless they are there; the mask first, so that the image vouches for both."""
    path = part / image.path("data")
    if path.is_file() and path.stat().st_size > 0:
        return False
    from medvq.shards.synth.slide import draw

    pixels, mask = draw(seed, image.index, image.cell, image.patient, size)
    if image.mask:
        _put(part / image.path("mask"), _png(mask))
    _put(path, _png(pixels))
    return True


def _png(pixels: Any) -> bytes:
    from PIL import Image as Pillow

    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _put(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(data)
    os.replace(beside, path)
