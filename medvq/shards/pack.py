"""`medvq shard`: a source tree becomes a dataset, whole or not at all.

Files are listed and sorted into samples (`understand`), every image is decoded and converted in parallel (`examine`),
splits, keys and shards are planned from what was found (`plan`), shards are written in parallel (`assemble`), then the
index, then the manifest, and the finished folder is renamed to DEST.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from medvq.config.errors import UsageError
from medvq.config.keys import canonical_json
from medvq.config.recipe import Recipe
from medvq.shards.assemble import Piece, ShardTask, Written, write_shard
from medvq.shards.examine import Examined, examine_part, parts_of, read_part
from medvq.shards.facts import manifest_of, versions
from medvq.shards.index import write_index
from medvq.shards.manifest import INDEX, IndexFile, Manifest, read_manifest, split_order, write_manifest
from medvq.shards.npz import NpzOrigin, forget_arrays
from medvq.shards.plan import Plan, Planned, plan_pack, released_notes
from medvq.shards.pool import Pool, usable_cores
from medvq.shards.report import BadSamplesError, LeakError, PackReport
from medvq.shards.scan import Left
from medvq.shards.staging import Staging, disk_errors, refuse_other
from medvq.shards.understand import Understood, inputs_of, must_exist, read_source

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
        source: a folder of images.
        dest: a new or empty folder; one that already holds this very dataset is left as it is.
        recipe: what the source means; without one, or where it names no images, the layout is detected.
        processes: worker processes; None: one per usable core. The result does not depend on it.
        on_bad: `fail` or `skip`; None: as the recipe says.
        on_leak: `fail` or `report`; None: as the recipe says.
        progress: called with (stage, done, all).

    Raises:
        NotFoundError: no source. UsageError: nothing to pack, or DEST holds something else.
        BadSamplesError, LeakError: see there. MedvqError: DEST cannot be written.
    """
    source, dest = Path(source), Path(dest)
    staging = Staging(dest)
    workers = processes or usable_cores()
    if workers < 1:
        raise UsageError(f"{processes} processes cannot pack anything", hint="give 1 or more")
    must_exist(source)
    refuse_other(dest)
    if (dest / "manifest.json").is_file():
        return _unchanged(dest, read_source(source, recipe, exclude=[dest, staging.folder]), staging, on_bad, on_leak)
    try:
        with disk_errors(dest):
            staging.claim()
        with Pool(workers) as pool:
            # After the lock, which the workers share: while one of them lives, nobody else packs to DEST.
            pool.start()
            understood = read_source(source, recipe, exclude=[dest, staging.folder])
            with disk_errors(dest):
                staging.open(_fingerprint(understood))
                if isinstance(understood.origin, NpzOrigin):
                    understood = replace(understood, origin=understood.origin.unpacked(staging.arrays))
                report = _pack(understood, staging, pool, on_bad, on_leak, progress or _silent)
    except Exception:
        staging.abandon()
        raise
    else:
        staging.remove()
        return report
    finally:
        # Ctrl-C leaves the folder for the same command to go on with, but not its lock.
        staging.release()
        forget_arrays()


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _pack(
    understood: Understood, staging: Staging, pool: Pool, on_bad: str | None, on_leak: str | None, progress: Progress
) -> PackReport:
    arranged, recipe = understood.arranged, understood.recipe
    on_bad, on_leak = on_bad or recipe.on_bad, on_leak or recipe.on_leak
    examined = _examine(understood, staging, pool, progress)
    released = [(r.percent, {understood.origin.fingerprint(p) for p in r.paths}) for r in arranged.released]
    plan = plan_pack(arranged.samples, examined, recipe, arranged.classes, on_leak=on_leak, released=released)
    skipped = sorted([*arranged.bad, *plan.skipped], key=lambda b: b.path)
    if skipped and (on_bad == "fail" or not plan.shards):
        raise BadSamplesError(skipped, understood.seen)
    if plan.leaks.found and on_leak == "fail":
        raise LeakError(plan.leaks)
    written = _write(understood, plan, staging, pool, progress)
    pool.dismiss()
    planned = plan.planned
    for task, shard in zip(written, plan.shards, strict=True):
        for p, members in zip(shard.members, task.members, strict=True):
            p.row.members = members
    size, digest = write_index(staging.out / INDEX, [p.row for p in planned])
    arranged.notes += released_notes(planned, released)
    manifest = manifest_of(understood, plan, written, IndexFile(file=INDEX, bytes=size, sha256=digest), skipped)
    write_manifest(staging.out, manifest)
    staging.publish()
    return _report(staging.dest, manifest, unchanged=False)


def _examine(understood: Understood, staging: Staging, pool: Pool, progress: Progress) -> list[Examined]:
    samples = understood.arranged.samples
    parts = parts_of(samples, staging.parts, understood.origin, understood.recipe)
    found: dict[int, list[Examined]] = {}
    for part in parts:
        try:
            found[part.number] = read_part(part.stem)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    todo = [p for p in parts if p.number not in found]
    done = sum(map(len, found.values()))
    for place, n in pool.results(examine_part, todo):
        found[todo[place].number] = read_part(todo[place].stem)
        done += n
        progress("examine", done, len(samples))
    return [e for part in parts for e in found[part.number]]


def _write(understood: Understood, plan: Plan, staging: Staging, pool: Pool, progress: Progress) -> list[Written]:
    spools = {n: str(staging.parts / f"part-{n:06d}.bin") for n in {p.part for p in plan.planned}}
    tasks = [
        ShardTask(
            s.file,
            str(staging.out),
            str(staging.records),
            understood.origin,
            [_piece(p, understood, spools[p.part]) for p in s.members],
        )
        for s in plan.shards
    ]
    written: dict[int, Written] = {}
    done, total = 0, sum(len(s.members) for s in plan.shards)
    for place, record in pool.results(write_shard, tasks):
        written[place] = record
        done += record.samples
        progress("write", done, total)
    return [written[i] for i in range(len(tasks))]


def _piece(p: Planned, understood: Understood, spool: str) -> Piece:
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
        skipped=m.skipped,
        splits={n: m.splits[n].samples for n in split_order(m.splits)},
        notes=m.notes,
        leaks=m.leaks.found,
        unchanged=unchanged,
    )


def _unchanged(
    dest: Path, understood: Understood, staging: Staging, on_bad: str | None, on_leak: str | None
) -> PackReport:
    """DEST already holds a dataset: fine if it is the one that would be made.

    Raises:
        UsageError: it is another one.
        BadSamplesError, LeakError: it was made with them, and now they are refused.
    """
    manifest = read_manifest(dest)
    on_bad, on_leak = on_bad or understood.recipe.on_bad, on_leak or understood.recipe.on_leak
    if staging.folder.is_dir():
        staging.lock()
    inputs = inputs_of(understood)
    forget_arrays()
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


def _fingerprint(understood: Understood) -> str:
    """Names what parts and shards in a staging folder were made from."""
    arranged = understood.arranged
    whole = hashlib.sha256(canonical_json(versions()).encode())
    whole.update(understood.recipe.model_dump_json().encode())
    whole.update(repr((arranged.classes, understood.origin)).encode())
    for s in arranged.samples:
        whole.update(repr(s).encode())
    return whole.hexdigest()
