"""The datasets of a study: found, drawn where a study asks for it, and checked against what its jobs need."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medvq.config.errors import DataError, NotFoundError, Problem, UsageError, nearest
from medvq.config.resolve import Study
from medvq.config.study import Source, Synthetic
from medvq.config.tasks import TASKS
from medvq.runs.atomic import make_folder
from medvq.runs.spec import DatasetRef
from medvq.shards.manifest import Manifest, read_manifest

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A dataset that is there."""

    ref: DatasetRef
    manifest: Manifest


def used_data(study: Study, jobs: Iterable[str]) -> dict[str, Source]:
    """The entries of `data` that the jobs read."""
    names = dict.fromkeys(p.config.data.use for job in jobs for p in study.jobs[job])
    return {name: study.data[name] for name in names}


def place_of(source: Source, name: str, given: Mapping[str, str], datasets: Path, study_folder: Path) -> Path:
    """Where the dataset of an entry is, or will be."""
    if name in given:
        return Path(given[name]).resolve()
    if source.synth:
        synth = source.synth
        return (study_folder / "datasets" / f"{synth.name}-{synth.samples}-{synth.size}").resolve()
    if source.dataset is None:
        raise UsageError(f"the study does not say where {name} is", hint=f"give it: --data {name}=FOLDER")
    path = Path(source.dataset)
    return (path if path.is_absolute() else datasets / path).resolve()


def find_data(
    study: Study, jobs: Iterable[str], *, given: Mapping[str, str], datasets: Path, study_folder: Path, make: Say | None
) -> dict[str, Found | None]:
    """The datasets that jobs read, by entry. Missing synthetic ones are drawn, saying so to `make`; without it, None.

    Raises:
        UsageError: `given` names an entry that the study lacks.
        NotFoundError: a dataset is not there.
        DataError: its manifest is damaged.
    """
    for name in given:
        if name not in study.data:
            raise UsageError(
                f"the study has no data named {name!r}", where=f"--data {name}", hint=nearest(name, study.data)
            )
    found: dict[str, Found | None] = {}
    for name, source in used_data(study, jobs).items():
        path = place_of(source, name, given, datasets, study_folder)
        if source.synth and name not in given and not (path / "manifest.json").exists():
            if make is None:
                found[name] = None
                continue
            draw(source.synth, path, make)
        try:
            manifest = read_manifest(path)
        except NotFoundError as e:
            raise NotFoundError(
                f"no dataset for {name}",
                where=str(path),
                hint=f"pack one with `medvq shard SOURCE {path}`, or point to one with --data {name}=FOLDER",
            ) from e
        found[name] = Found(ref=DatasetRef(path=str(path), digest=manifest.digest), manifest=manifest)
    return found


def draw(synth: Synthetic, path: Path, say: Say) -> None:
    """Draw and pack a synthetic dataset; two processes that want it make it once."""
    from medvq.config.locate import find
    from medvq.config.recipe import load_recipe
    from medvq.shards.pack import pack
    from medvq.shards.synth import smear

    make_folder(path.parent)
    with open(path.parent / f".{path.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (path / "manifest.json").exists():
            return
        say(f"drawing {synth.samples} synthetic images of {synth.size} px")
        tree = path.parent / f".{path.name}.tree"
        smear(tree, samples=synth.samples, size=synth.size)
        pack(
            tree,
            path,
            load_recipe(find("shards", synth.name)),
            processes=1,
            on_bad="fail",
            on_leak="fail",
            progress=None,
        )
        shutil.rmtree(tree, ignore_errors=True)


def check_data(study: Study, jobs: Iterable[str], found: Mapping[str, Found | None]) -> None:
    """Splits, classes and labels that the jobs need are there.

    Raises:
        UsageError: with everything that is missing.
    """
    problems: dict[str, Problem] = {}
    for job in jobs:
        for point in study.jobs[job]:
            name = point.config.data.use
            data, source = found[name], study.data[name]
            if data is None:
                continue
            has = {s: v.samples for s, v in data.manifest.splits.items()}
            for split in ("train", "val", "test"):
                if not has.get(split):
                    problems[f"{name} {split}"] = Problem(
                        where=data.ref.path,
                        error=f"the dataset has no {split} images, and job {job} needs them",
                        hint="pack it with a recipe that makes or names this split",
                    )
            if TASKS[point.config.task].labels and not data.manifest.classes:
                problems[f"{name} labels"] = Problem(
                    where=data.ref.path, error=f"the dataset has no labels, and job {job} needs them"
                )
            if source.classes is not None and tuple(data.manifest.classes) != source.classes:
                problems[f"{name} classes"] = Problem(
                    where=data.ref.path,
                    error=f"the dataset's classes are {', '.join(data.manifest.classes)}",
                    hint=f"data.{name}.classes asks for {', '.join(source.classes)}",
                )
    if problems:
        first, *more = problems.values()
        raise UsageError("; ".join([first.error, *(str(p) for p in more)]), where=first.where, hint=first.hint)


def check_disjoint(training: Found, test: Found, *, job: str, needed: str) -> None:
    """No image that a needed run trains on is in this run's test split.

    Raises:
        DataError: some are.
    """
    if training.ref.digest == test.ref.digest:
        return  # the leak check of packing covers one dataset
    import numpy as np

    from medvq.shards.dataset import Dataset

    sums = []
    for found, split in ((training, "train"), (test, "test")):
        dataset = Dataset.open(found.ref.path)
        here = dataset.column("split") == dataset.splits.index(split)
        sums.append(dataset.columns.leading_bits("sha256")[here])
    both = np.intersect1d(*sums)
    if len(both):
        raise DataError(
            f"{len(both)} training images of {needed} are in the test split of {job}",
            where=training.ref.path,
            hint=f"the first has sha256 {int(both[0]):016x}…; pack {Path(training.ref.path).name} without them",
        )
