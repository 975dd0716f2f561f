"""Group runs into job arrays, with the dependencies between them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medvq.errors import MissingError


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A run to send."""

    run: str
    job: str
    """The job of the study; its runs have the same needs and resources."""
    needs: tuple[str, ...]
    """Runs that it needs and that are not done yet."""


@dataclass(frozen=True, kw_only=True)
class Array:
    """Runs of one job of the study, for one call of `sbatch`."""

    job: str
    tasks: dict[int, str]
    """Run names by array index."""
    after: tuple[str, ...] = ()
    """Runs that all tasks wait for."""
    matching: int | None = None
    """Position of the array whose task of the same index each task waits for."""


def arrays(wanted: Iterable[Wanted], limit: int) -> list[Array]:
    """Group runs into arrays, in topological order.

    Args:
        wanted: the runs, in topological order.
        limit: the cluster's MaxArraySize; indices stay below it.

    Raises:
        MissingError: the cluster has no job arrays.
    """
    made: list[Array] = []
    place: dict[str, tuple[int, int]] = {}
    by_job: dict[str, list[Wanted]] = {}
    for w in wanted:
        by_job.setdefault(w.job, []).append(w)
    if by_job and limit < 1:
        raise MissingError(
            "this cluster has no job arrays (MaxArraySize=0), and runs are sent as arrays",
            hint="ask its administrator, or send the study as one job: sbatch slurm/medvq.sbatch STUDY",
        )
    for job, members in by_job.items():
        for array in _of_job(job, members, place, limit):
            place |= {run: (len(made), index) for index, run in array.tasks.items()}
            made.append(array)
    return made


def _of_job(job: str, members: Sequence[Wanted], place: Mapping[str, tuple[int, int]], limit: int) -> list[Array]:
    found: list[Array] = []
    rest: list[Wanted] = []
    pairs: dict[int, list[Wanted]] = {}
    for w in members:
        if len(w.needs) == 1 and w.needs[0] in place:
            pairs.setdefault(place[w.needs[0]][0], []).append(w)
        else:
            rest.append(w)
    for position, group in pairs.items():
        indices = [place[w.needs[0]][1] for w in group]
        if len(group) > 1 and len(set(indices)) == len(group):
            tasks = {i: w.run for i, w in sorted(zip(indices, group, strict=True), key=lambda pair: pair[0])}
            found.append(Array(job=job, tasks=tasks, matching=position))
        else:
            rest += group
    same: dict[tuple[str, ...], list[Wanted]] = {}
    for w in rest:
        same.setdefault(tuple(sorted(set(w.needs))), []).append(w)
    for needs, group in same.items():
        for start in range(0, len(group), limit):
            part = group[start : start + limit]
            found.append(Array(job=job, tasks={i: w.run for i, w in enumerate(part)}, after=needs))
    return found


def indices(tasks: Iterable[int]) -> str:
    """Return array indices in the form of sbatch, such as `0-3,7`."""
    spans: list[list[int]] = []
    for i in sorted(tasks):
        if spans and spans[-1][1] == i - 1:
            spans[-1][1] = i
        else:
            spans.append([i, i])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def dependency(array: Array, jobs: Sequence[str], ids: Mapping[str, str]) -> str | None:
    """Return the value of `--dependency` for an array; None if it waits for nothing.

    Args:
        array: the array that waits.
        jobs: SLURM's ids of the arrays that were sent before, by position.
        ids: SLURM's ids of the runs that are queued or were just sent.
    """
    if array.matching is not None:
        return f"aftercorr:{jobs[array.matching]}"
    if array.after:
        return "afterok:" + ":".join(ids[run] for run in array.after)
    return None
