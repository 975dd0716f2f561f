"""Pack a source into a dataset on one machine, completely or not at all.

The source is listed and sorted into samples, every image is decoded and converted in parallel, splits, keys and shards
are planned from the results, shards are written in parallel, then the index, then the manifest; at last the finished
folder is renamed to DEST. `medvq.shards.pack.phases` has the single steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from medvq.config.recipe import Recipe
from medvq.errors import UsageError
from medvq.processes import usable_cores
from medvq.shards.dataset.manifest import Manifest, read_manifest, split_order
from medvq.shards.pack.changes import what_changed
from medvq.shards.pack.examine import Examined, known
from medvq.shards.pack.layout import Shard, ShardLayout
from medvq.shards.pack.phases import (
    examine,
    facts_and_columns,
    fingerprint_of,
    lay_out,
    parts_for,
    publish,
    shard_task,
)
from medvq.shards.pack.pool import uncollected, working
from medvq.shards.pack.report import BadSamplesError, LeakError, PackReport
from medvq.shards.pack.workspace import Workspace, disk_errors, refuse_other
from medvq.shards.pack.write import Written, write_shard
from medvq.shards.source.base import Left
from medvq.shards.source.patterns import ending
from medvq.shards.source.resolve import ResolvedSource, inputs_of, must_exist, read_source

__all__ = ["BadSamplesError", "LeakError", "PackReport", "Progress", "pack"]

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, all)."""


def pack(
    source: Path,
    dest: Path,
    recipe: Recipe | None = None,
    *,
    processes: int | None = None,
    on_bad: str | None = None,
    on_leak: str | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack `source` to the dataset folder `dest`.

    Args:
        source: a folder of images, an `.npz` file, `.tar` shards, or what the recipe's `container` opens.
        dest: a new or empty folder; one that already holds this very dataset is left as it is.
        recipe: what the source means; without one, or where it names no images, the layout is detected.
        processes: worker processes; None: one per usable core. The result does not depend on it.
        on_bad: `fail` or `skip`; None: as the recipe says.
        on_leak: `fail` or `report`; None: as the recipe says.
        progress: called with (stage, done, all).

    Raises:
        NotFoundError: no source. UsageError: nothing to pack, a split would be empty, or DEST holds something else.
        BadSamplesError, LeakError: see there. MedvqError: DEST cannot be written.
    """
    source, dest = Path(source), Path(dest)
    workspace = Workspace(dest)
    workers = processes or usable_cores()
    if workers < 1:
        raise UsageError(f"{processes} processes cannot pack anything", hint="give 1 or more")
    must_exist(source, recipe)
    refuse_other(dest)
    if (dest / "manifest.json").is_file():
        return _unchanged(
            dest, read_source(source, recipe, exclude=[dest, workspace.folder]), workspace, on_bad, on_leak
        )
    resolved: ResolvedSource | None = None
    try:
        with disk_errors(dest):
            workspace.claim()
        workspace.refuse_jobs()
        # The workers share the lock: while one of them lives, nobody else packs to DEST.
        with uncollected():
            resolved = read_source(source, recipe, exclude=[dest, workspace.folder])
            if (dest / "manifest.json").is_file():  # another process published it while this one waited
                return _unchanged(dest, resolved, workspace, on_bad, on_leak)
            with disk_errors(dest):
                workspace.open(fingerprint_of(resolved))
                resolved = replace(resolved, source=resolved.source.prepared(workspace.arrays))
                report = pack_resolved(resolved, workspace, workers, on_bad, on_leak, progress)
    except Exception:
        workspace.abandon()
        raise
    else:
        workspace.remove()
        return report
    finally:
        # Ctrl-C leaves the folder for the same command to go on with, but not its lock.
        workspace.release()
        if resolved is not None:
            resolved.source.close()


def pack_resolved(
    resolved: ResolvedSource,
    workspace: Workspace,
    workers: int,
    on_bad: str | None,
    on_leak: str | None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack a source that was listed, in an open workspace. What an earlier packing did there is not done again.

    Args:
        resolved: the source.
        workspace: the folder beside DEST.
        workers: number of worker processes.
        on_bad: as of `pack`.
        on_leak: as of `pack`.
        progress: as of `pack`.

    Raises:
        BadSamplesError: images cannot enter the dataset.
        LeakError: splits share groups or bytes.
        UsageError: a split would be empty.
        OSError: the workspace cannot be written.
    """
    progress = progress or _no_progress
    checked = lay_out(resolved, _examine(resolved, workspace, workers, progress), on_bad, on_leak)
    shards = checked.layout.shards

    def write(shard: Shard) -> Written:
        return write_shard(shard_task(shard, resolved, workspace))

    with working(write, shards, workers) as results:
        # Meanwhile, for cores idle before the last shard is written.
        facts, columns = facts_and_columns(resolved, checked)
        written = _written(checked.layout, results, progress)
    manifest = publish(facts, columns, shards, written, workspace)
    return report_of(workspace.dest, manifest, unchanged=False)


def _no_progress(stage: str, done: int, total: int) -> None:
    pass


def _examine(resolved: ResolvedSource, workspace: Workspace, workers: int, progress: Progress) -> list[Examined]:
    samples, parts = resolved.arranged.samples, parts_for(resolved, workspace)
    found = known(workspace.logs, workspace.parts)
    done = sum(map(len, found.values()))
    for number, some in examine([p for p in parts if p.number not in found], workspace.log, workers):
        found[number] = some
        done += len(some)
        progress("examine", done, len(samples))
    return [e for part in parts for e in found[part.number]]


def _written(layout: ShardLayout, results: Iterable[tuple[int, Written]], progress: Progress) -> list[Written]:
    written: dict[int, Written] = {}
    done, total = 0, sum(len(s.members) for s in layout.shards)
    for place, record in results:
        written[place] = record
        done += record.samples
        progress("write", done, total)
    return [written[i] for i in range(len(layout.shards))]


def report_of(dest: Path, m: Manifest, *, unchanged: bool) -> PackReport:
    """Return the report of a packed dataset, from its manifest."""
    return PackReport(
        dataset=str(dest),
        digest=m.digest,
        seen=m.counts["seen"],
        written=m.counts["written"],
        ignored=m.counts["ignored"],
        ignored_kinds=dict(Counter(k for row in m.ignored if (k := ending(row["path"]))).most_common()),
        skipped=m.skipped,
        splits={n: m.splits[n].samples for n in split_order(m.splits)},
        guesses=m.guesses,
        notes=m.notes,
        leaks=m.leaks.found,
        unchanged=unchanged,
    )


def _unchanged(
    dest: Path, resolved: ResolvedSource, workspace: Workspace, on_bad: str | None, on_leak: str | None
) -> PackReport:
    """DEST already holds a dataset: fine if it is the one that would be made.

    Raises:
        UsageError: it is another one.
        BadSamplesError, LeakError: it was made with them, and now they are refused.
    """
    manifest = read_manifest(dest)
    on_bad, on_leak = on_bad or resolved.recipe.on_bad, on_leak or resolved.recipe.on_leak
    if not workspace.locked and workspace.folder.is_dir():
        workspace.lock()
    inputs = inputs_of(resolved)
    if manifest.inputs != inputs:
        raise UsageError(
            f"DEST already holds a dataset, and {what_changed(resolved, manifest, dest)}",
            where=str(dest),
            hint="give the name of a new folder, or remove DEST to make it again",
        )
    resolved.source.close()
    if manifest.skipped and on_bad == "fail":
        raise BadSamplesError([Left(**row) for row in manifest.skipped], resolved.seen)
    if manifest.leaks.found and on_leak == "fail":
        raise LeakError(manifest.leaks)
    workspace.remove()
    return report_of(dest, manifest, unchanged=True)
