"""Checks that the datasets of a study have what its jobs need, and that no training image is a test image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medvq.config.data import Source
from medvq.config.expand import Point
from medvq.config.resolve import Study
from medvq.config.task_info import find_task
from medvq.errors import DataError, Problem, UsageError
from medvq.launch.data import Found


def check_data(study: Study, jobs: Iterable[str], found: Mapping[str, Found | None]) -> None:
    """Check that datasets have the splits, classes, labels and masks that the jobs need.

    Raises:
        UsageError: something is missing; the message lists everything.
    """
    problems: dict[tuple[str, str], Problem] = {}
    for job in jobs:
        for point in study.jobs[job]:
            entry = point.config.data.use
            for problem in _unselected(study, point):
                problems.setdefault((problem.where, problem.error), problem)
            for name in study.data[entry].origins(entry):
                data = found[name]
                for problem in _lacking(point, study.data[entry], data) if data else ():
                    problems.setdefault((problem.where, problem.error), problem)
    if problems:
        first, *more = problems.values()
        raise UsageError("; ".join([first.error, *(str(p) for p in more)]), where=first.where, hint=first.hint)


def _unselected(study: Study, point: Point) -> Iterator[Problem]:
    """Yield needs of a best checkpoint from jobs that hold out no images to choose it by."""
    for role, need in point.config.needs.items():
        held_out = all(study.data[p.config.data.use].held_out for p in study.jobs[need.job])
        if need.checkpoint == "best" and not held_out:
            yield Problem(
                where=f"jobs.{point.job}.needs.{role}",
                error=f"job {need.job} holds no images out, so it has no best checkpoint",
                hint="say checkpoint: last",
            )


def _lacking(point: Point, source: Source, data: Found) -> Iterator[Problem]:
    """Yield what a job needs and a dataset lacks."""
    has = {name: split.samples for name, split in data.manifest.splits.items()}
    for split in ("train", *source.held_out) if source.held_out else ():
        if not has.get(split):
            yield Problem(
                where=data.ref.path,
                error=f"the dataset has no {split} images, and job {point.job} needs them",
                hint="pack it with a recipe that makes or names this split",
            )
    if find_task(point.config.task).labels and not data.manifest.classes:
        yield Problem(where=data.ref.path, error=f"the dataset has no labels, and job {point.job} needs them")
    if source.classes is not None and tuple(data.manifest.classes) != source.classes:
        yield Problem(
            where=data.ref.path,
            error=f"the dataset's classes are {', '.join(data.manifest.classes)}",
            hint=f"data.{point.config.data.use}.classes asks for {', '.join(source.classes)}",
        )
    asks = point.config.data.masks or point.config.data.mask_copies
    if asks and not any(split.masks for split in data.manifest.splits.values()):
        yield Problem(where=data.ref.path, error=f"the dataset has no masks, and job {point.job} asks for them")
    inside = point.objective.reads_masks
    if inside and not any(data.manifest.splits[split].masks for split in source.held_out):
        yield Problem(
            where=data.ref.path,
            error=f"no held-out image has a mask, and job {point.job} measures inside them",
            hint="set objective.foreground to a brightness",
        )


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A dataset that a run trained on."""

    found: Found
    everything: bool
    """Whether the run trained on all splits of the dataset."""


def check_disjoint(seen: Seen, test: Found, *, job: str, needed: str) -> None:
    """Check that no training image of a needed run is in the test split of this run.

    Raises:
        DataError: some training images are.
    """
    training = seen.found
    if training.ref.digest == test.ref.digest and not seen.everything:
        return  # packing has checked for leaks between the splits of one dataset
    import numpy as np

    from medvq.shards.dataset.dataset import Dataset

    def sums_of(found: Found, split: str | None) -> NDArray[np.uint64]:
        dataset = Dataset.open(found.ref.path)
        sums = dataset.columns.leading_bits("sha256")
        return sums if split is None else sums[dataset.column("split") == dataset.splits.index(split)]

    both = np.intersect1d(sums_of(training, None if seen.everything else "train"), sums_of(test, "test"))
    if len(both):
        raise DataError(
            f"{len(both)} training images of {needed} are in the test split of {job}",
            where=training.ref.path,
            hint=f"the first has sha256 {int(both[0]):016x}…; pack {Path(training.ref.path).name} without them",
        )
