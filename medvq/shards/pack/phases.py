"""The phases of packing: examine images, lay out shards, write shards, publish.

Each phase is cut into parts that do not depend on each other, and what is done is recorded in the workspace. So
one process can do all of it, or tasks on many machines a share each, and the dataset is the same to the byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvq.config.plugins import code_of
from medvq.keys import canonical_json
from medvq.registry import is_import_path
from medvq.shards.dataset.index import columns_of, write_index
from medvq.shards.dataset.manifest import INDEX, IndexFile, Manifest, ShardFile, write_manifest
from medvq.shards.pack.examine import Examined, ExaminedPart, examine_part, parsed, parts_of, spool_of
from medvq.shards.pack.facts import facts_of, versions
from medvq.shards.pack.layout import PlacedSample, Shard, ShardLayout, plan_layout, refuse_empty_splits, released_notes
from medvq.shards.pack.pool import working
from medvq.shards.pack.report import BadSamplesError, LeakError
from medvq.shards.pack.workspace import Workspace
from medvq.shards.pack.write import ShardSample, ShardTask, Written
from medvq.shards.source.base import Left
from medvq.shards.source.resolve import ResolvedSource


def fingerprint_of(resolved: ResolvedSource) -> str:
    """Return what identifies the inputs of the parts and shards in a workspace."""
    arranged, container = resolved.arranged, resolved.recipe.container
    code = code_of(container).sha256 if container and is_import_path(container) else ""
    whole = hashlib.sha256(canonical_json(versions()).encode())
    whole.update(resolved.recipe.model_dump_json().encode())
    whole.update(repr((arranged.classes, resolved.source.stamp(), code)).encode())
    for s in arranged.samples:
        whole.update(repr(s).encode())
    return whole.hexdigest()


def parts_for(resolved: ResolvedSource, workspace: Workspace) -> list[ExaminedPart]:
    """Return the samples in parts, in order."""
    return parts_of(resolved.arranged.samples, workspace.parts, resolved.source, resolved.recipe)


def examine(parts: Sequence[ExaminedPart], log: Path, workers: int) -> Iterator[tuple[int, list[Examined]]]:
    """Examine parts in worker processes, and add each to the log; yields (number, what was found out).

    Raises:
        OSError: the workspace cannot be written. MedvqError: a worker was killed.
    """
    with open(log, "a", encoding="utf-8") as lines, working(examine_part, parts, workers) as results:
        for place, line in results:
            lines.write("\n" + line)  # the newline comes first, because the last line may be torn
            lines.flush()
            yield parts[place].number, parsed(line)


@dataclass(frozen=True)
class Checked:
    """A layout that may be written."""

    layout: ShardLayout
    skipped: list[Left]
    """Everything that is left out, sorted by path."""
    notes: list[str]
    """What differs between released smaller sets and our own rule."""


def lay_out(resolved: ResolvedSource, examined: Sequence[Examined], on_bad: str | None, on_leak: str | None) -> Checked:
    """Plan splits, keys and shards from what was found out about the samples.

    Args:
        resolved: the source.
        examined: what was found out about each sample, in order.
        on_bad: as of `pack`.
        on_leak: as of `pack`.

    Raises:
        BadSamplesError, LeakError: see there. UsageError: a split would be empty.
    """
    arranged, recipe = resolved.arranged, resolved.recipe
    on_bad, on_leak = on_bad or recipe.on_bad, on_leak or recipe.on_leak
    released = [(r.percent, {resolved.source.identify(p) for p in r.paths}) for r in arranged.released]
    layout = plan_layout(arranged.samples, examined, recipe, arranged.classes, on_leak=on_leak, released=released)
    skipped = sorted([*arranged.bad, *layout.skipped], key=lambda b: b.path)
    if skipped and (on_bad == "fail" or not layout.shards):
        raise BadSamplesError(skipped, resolved.seen, none_left=not layout.shards)
    if layout.leaks.found and on_leak == "fail":
        raise LeakError(layout.leaks)
    refuse_empty_splits(layout.samples, recipe)
    return Checked(layout, skipped, released_notes(layout.samples, released))


def shard_task(shard: Shard, resolved: ResolvedSource, workspace: Workspace) -> ShardTask:
    """Return all that a process needs to write one shard."""
    samples = [_sample(p, resolved, spool_of(str(workspace.parts), p.part)) for p in shard.members]
    return ShardTask(shard.file, str(workspace.out), str(workspace.records), resolved.source, samples)


def facts_and_columns(resolved: ResolvedSource, checked: Checked) -> tuple[dict[str, Any], Any]:
    """Return what the manifest says, and the index's columns, but for what only written shards can tell."""
    resolved.arranged.notes += checked.notes
    facts = facts_of(resolved, checked.layout, checked.skipped)
    return facts, columns_of([p.row for p in checked.layout.samples])


def publish(
    facts: dict[str, Any], columns: Any, shards: Sequence[Shard], written: Iterable[Written], workspace: Workspace
) -> Manifest:
    """Write the index and the manifest, and rename the dataset into place.

    Raises:
        OSError: the workspace cannot be written.
    """
    written = list(written)
    size, digest = write_index(workspace.out / INDEX, columns, [w.places for w in written])
    files = [
        ShardFile(file=w.file, split=s.split, samples=w.samples, bytes=w.bytes, sha256=w.sha256)
        for w, s in zip(written, shards, strict=True)
    ]
    manifest = Manifest(**facts, shards=files, index=IndexFile(file=INDEX, bytes=size, sha256=digest))
    write_manifest(workspace.out, manifest)
    workspace.publish()
    return manifest


def _sample(p: PlacedSample, resolved: ResolvedSource, spool: str) -> ShardSample:
    row, image = p.row, p.examined.image
    assert image is not None
    facts: dict[str, Any] = {"split": row.split, "sha256": row.sha256, "width": row.width, "height": row.height}
    if row.label >= 0:
        facts["class"] = resolved.arranged.classes[row.label]
    if row.group is not None:
        facts["group"] = row.group
    if not resolved.recipe.opaque_keys:
        facts["path"] = p.sample.path
    mask = p.sample.mask
    return ShardSample(
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
