"""`medvq shard`: a source tree becomes a dataset, whole or not at all.

Files are listed and sorted into samples (`understand`), every image is decoded and converted in parallel (`examine`),
splits, keys and shards are planned from what was found (`plan`), shards are written in parallel (`assemble`), then the
index, then the manifest, and the finished folder is renamed to DEST.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from medvq.config.plugins import code_of
from medvq.config.recipe import Recipe
from medvq.errors import UsageError
from medvq.keys import canonical_json
from medvq.processes import usable_cores
from medvq.registry import is_import_path
from medvq.shards.dataset.index import columns_of, write_index
from medvq.shards.dataset.manifest import (
    INDEX,
    IndexFile,
    Manifest,
    ShardFile,
    read_manifest,
    split_order,
    write_manifest,
)
from medvq.shards.pack.examine import Examined, examine_part, known, parsed, parts_of, spool_of
from medvq.shards.pack.facts import facts_of, versions
from medvq.shards.pack.layout import Planned, Shard, ShardLayout, plan_pack, refuse_empty_splits, released_notes
from medvq.shards.pack.pool import uncollected, working
from medvq.shards.pack.report import BadSamplesError, LeakError, PackReport
from medvq.shards.pack.workspace import Staging, disk_errors, refuse_other
from medvq.shards.pack.write import Piece, ShardTask, Written, write_shard
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
    staging = Staging(dest)
    workers = processes or usable_cores()
    if workers < 1:
        raise UsageError(f"{processes} processes cannot pack anything", hint="give 1 or more")
    must_exist(source, recipe)
    refuse_other(dest)
    if (dest / "manifest.json").is_file():
        return _unchanged(dest, read_source(source, recipe, exclude=[dest, staging.folder]), staging, on_bad, on_leak)
    understood: ResolvedSource | None = None
    try:
        with disk_errors(dest):
            staging.claim()
        # The workers share the lock: while one of them lives, nobody else packs to DEST.
        with uncollected():
            understood = read_source(source, recipe, exclude=[dest, staging.folder])
            if (dest / "manifest.json").is_file():  # another process published it while this one waited
                return _unchanged(dest, understood, staging, on_bad, on_leak)
            with disk_errors(dest):
                staging.open(_fingerprint(understood))
                understood = replace(understood, source=understood.source.prepared(staging.arrays))
                report = _pack(understood, staging, workers, on_bad, on_leak, progress or _silent)
    except Exception:
        staging.abandon()
        raise
    else:
        staging.remove()
        return report
    finally:
        # Ctrl-C leaves the folder for the same command to go on with, but not its lock.
        staging.release()
        if understood is not None:
            understood.source.close()


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _pack(
    understood: ResolvedSource,
    staging: Staging,
    workers: int,
    on_bad: str | None,
    on_leak: str | None,
    progress: Progress,
) -> PackReport:
    arranged, recipe = understood.arranged, understood.recipe
    on_bad, on_leak = on_bad or recipe.on_bad, on_leak or recipe.on_leak
    examined = _examine(understood, staging, workers, progress)
    released = [(r.percent, {understood.source.identify(p) for p in r.paths}) for r in arranged.released]
    plan = plan_pack(arranged.samples, examined, recipe, arranged.classes, on_leak=on_leak, released=released)
    skipped = sorted([*arranged.bad, *plan.skipped], key=lambda b: b.path)
    if skipped and (on_bad == "fail" or not plan.shards):
        raise BadSamplesError(skipped, understood.seen)
    if plan.leaks.found and on_leak == "fail":
        raise LeakError(plan.leaks)
    refuse_empty_splits(plan.planned, recipe)
    arranged.notes += released_notes(plan.planned, released)
    with working(_writer(understood, staging), plan.shards, workers) as results:
        # Meanwhile, for cores idle before the last shard is written.
        facts, columns = facts_of(understood, plan, skipped), columns_of([p.row for p in plan.planned])
        written = _written(plan, results, progress)
    size, digest = write_index(staging.out / INDEX, columns, [w.places for w in written])
    shards = [
        ShardFile(file=w.file, split=s.split, samples=w.samples, bytes=w.bytes, sha256=w.sha256)
        for w, s in zip(written, plan.shards, strict=True)
    ]
    manifest = Manifest(**facts, shards=shards, index=IndexFile(file=INDEX, bytes=size, sha256=digest))
    write_manifest(staging.out, manifest)
    staging.publish()
    return _report(staging.dest, manifest, unchanged=False)


def _examine(understood: ResolvedSource, staging: Staging, workers: int, progress: Progress) -> list[Examined]:
    samples = understood.arranged.samples
    parts = parts_of(samples, staging.parts, understood.source, understood.recipe)
    found = known(staging.log, staging.parts)
    todo = [p for p in parts if p.number not in found]
    done = sum(map(len, found.values()))
    with open(staging.log, "a", encoding="utf-8") as log, working(examine_part, todo, workers) as results:
        for place, line in results:
            log.write("\n" + line)  # in front, as the last one may be torn
            log.flush()
            found[todo[place].number] = parsed(line)
            done += len(todo[place].samples)
            progress("examine", done, len(samples))
    return [e for part in parts for e in found[part.number]]


def _writer(understood: ResolvedSource, staging: Staging) -> Callable[[Shard], Written]:
    out, records, parts = (str(folder) for folder in (staging.out, staging.records, staging.parts))

    def write(shard: Shard) -> Written:
        pieces = [_piece(p, understood, spool_of(parts, p.part)) for p in shard.members]
        return write_shard(ShardTask(shard.file, out, records, understood.source, pieces))

    return write


def _written(plan: ShardLayout, results: Iterable[tuple[int, Written]], progress: Progress) -> list[Written]:
    written: dict[int, Written] = {}
    done, total = 0, sum(len(s.members) for s in plan.shards)
    for place, record in results:
        written[place] = record
        done += record.samples
        progress("write", done, total)
    return [written[i] for i in range(len(plan.shards))]


def _piece(p: Planned, understood: ResolvedSource, spool: str) -> Piece:
    row, image = p.row, p.examined.image
    assert image is not None
    facts: dict[str, Any] = {"split": row.split, "sha256": row.sha256, "width": row.width, "height": row.height}
    if row.label >= 0:
        facts["class"] = understood.arranged.classes[row.label]
    if row.group is not None:
        facts["group"] = row.group
    if not understood.recipe.opaque_keys:
        facts["path"] = p.sample.path
    mask = p.sample.mask
    return Piece(
        key=row.key,
        image=image,
        path=p.sample.path,
        size=p.sample.size,
        ext=row.ext,
        label=row.label,
        facts=facts,
        mask=p.examined.mask,
        mask_path=mask.path if mask else "",
        mask_size=mask.size if mask else 0,
        spool=spool,
    )


def _report(dest: Path, m: Manifest, *, unchanged: bool) -> PackReport:
    return PackReport(
        dataset=str(dest),
        digest=m.digest,
        seen=m.counts["seen"],
        written=m.counts["written"],
        ignored=m.counts["ignored"],
        ignored_kinds=dict(Counter(k for row in m.ignored if (k := ending(row["path"]))).most_common()),
        skipped=m.skipped,
        splits={n: m.splits[n].samples for n in split_order(m.splits)},
        notes=m.notes,
        leaks=m.leaks.found,
        unchanged=unchanged,
    )


def _unchanged(
    dest: Path, understood: ResolvedSource, staging: Staging, on_bad: str | None, on_leak: str | None
) -> PackReport:
    """DEST already holds a dataset: fine if it is the one that would be made.

    Raises:
        UsageError: it is another one.
        BadSamplesError, LeakError: it was made with them, and now they are refused.
    """
    manifest = read_manifest(dest)
    on_bad, on_leak = on_bad or understood.recipe.on_bad, on_leak or understood.recipe.on_leak
    if not staging.locked and staging.folder.is_dir():
        staging.lock()
    inputs = inputs_of(understood)
    understood.source.close()
    if manifest.inputs != inputs:
        raise UsageError(
            "DEST already holds another dataset, or the source or the recipe changed since",
            where=str(dest),
            hint="remove DEST, or give the name of a new folder",
        )
    if manifest.skipped and on_bad == "fail":
        raise BadSamplesError([Left(**row) for row in manifest.skipped], understood.seen)
    if manifest.leaks.found and on_leak == "fail":
        raise LeakError(manifest.leaks)
    staging.remove()
    return _report(dest, manifest, unchanged=True)


def _fingerprint(understood: ResolvedSource) -> str:
    """Return what identifies the inputs of the parts and shards in a staging folder."""
    arranged, container = understood.arranged, understood.recipe.container
    code = code_of(container).sha256 if container and is_import_path(container) else ""
    whole = hashlib.sha256(canonical_json(versions()).encode())
    whole.update(understood.recipe.model_dump_json().encode())
    whole.update(repr((arranged.classes, understood.source.stamp(), code)).encode())
    for s in arranged.samples:
        whole.update(repr(s).encode())
    return whole.hexdigest()
