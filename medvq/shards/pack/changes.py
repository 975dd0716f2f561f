"""Say what differs between a packed dataset and the source that would be packed in its place."""

from __future__ import annotations

from pathlib import Path

from medvq.shards.dataset.manifest import INDEX, Manifest
from medvq.shards.source.resolve import ResolvedSource


def what_changed(resolved: ResolvedSource, manifest: Manifest, dest: Path) -> str:
    """Return which of these holds: it is another source, images changed, or the recipe changed.

    Args:
        resolved: the source, whose files are read again.
        manifest: that of the dataset.
        dest: the dataset folder.
    """
    import pyarrow.parquet as pq

    have = set(pq.read_table(dest / INDEX, columns=["sha256"])["sha256"].to_pylist())
    now = {resolved.source.identify(s.path): s.path for s in resolved.arranged.samples}
    gone, new = have - now.keys(), now.keys() - have
    if not have & now.keys():
        return f"no image of it is in this source: it was made of another one ({manifest.name})"
    if new or gone:
        example = f", such as {min(now[sha] for sha in new)}" if new else ""
        return f"the source changed since: {len(new)} images are new{example}, {len(gone)} are gone"
    recipe = resolved.recipe.model_dump(mode="json", exclude_defaults=True)
    keys = sorted(k for k in {*recipe, *manifest.recipe} - {"official"} if recipe.get(k) != manifest.recipe.get(k))
    if keys:
        return f"the recipe or the options changed since, in {', '.join(keys)}"
    return "labels, splits, groups, masks or other files of the source changed since"
