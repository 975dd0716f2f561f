"""Options and output of `medvq shard` and `medvq inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medvq.cli.progress import counting
from medvq.config.locate import find
from medvq.config.recipe import Recipe, load_recipe
from medvq.config.recipe_text import parse_size
from medvq.errors import UsageError, suggest

STORES = ("auto", "png", "jpeg", "npy")
MOST_LINES = 8
"""Largest number of remarks that are printed; the manifest has all of them."""
MOST_KINDS = 6
"""Largest number of suffixes of ignored files that are printed."""
MOST_CLASSES = 20
"""Largest number of classes that are columns of the table of `medvq inspect`."""
MOST_SIZES = 5
"""Largest number of image sizes that are printed."""


def settings_of(recipe: str | None, *, size: str | None, store: str | None, opaque_keys: bool) -> Recipe:
    """Return the recipe with the options of the command applied to it.

    Raises:
        UsageError: the value of an option is invalid.
        NotFoundError: there is no such recipe.
    """
    store = "jpeg" if store == "jpg" else store
    if store is not None and store not in STORES:
        raise UsageError(f"unknown value {store!r}", where="--store", hint=suggest(store, STORES))
    settings = load_recipe(find("shards", recipe)) if recipe else Recipe()
    given: dict[str, Any] = {"store": store} if store else {}
    if opaque_keys:
        given["opaque_keys"] = True
    if size is not None:
        try:
            given["size"] = parse_size(size)
        except ValueError as e:
            raise UsageError(str(e), where="--size") from e
    return settings.model_copy(update=given)


def check_options(processes: int, on_bad: str | None, on_leak: str | None) -> None:
    """Raise UsageError if an option of `medvq shard` has a value that it cannot have."""
    for option, value, known in (("--on-bad", on_bad, ("fail", "skip")), ("--on-leak", on_leak, ("fail", "report"))):
        if value is not None and value not in known:
            raise UsageError(f"unknown value {value!r}", where=option, hint=suggest(value, known))
    if processes < 0:
        raise UsageError(f"cannot work with {processes} processes", where="--processes")


def pack_folder(
    source: Path,
    dest: Path,
    settings: Recipe,
    processes: int,
    on_bad: str | None,
    on_leak: str | None,
    *,
    dry_run: bool,
) -> dict[str, Any]:
    """Pack a folder and return the report as JSON data; with `dry_run`, return how the source was understood."""
    if dry_run:
        from medvq.shards.pack.preview import facts_of_source

        return facts_of_source(source, settings)
    from medvq.shards.pack.pack import pack
    from medvq.shards.pack.report import ListedError, keep_list, problems_file
    from medvq.shards.pack.workspace import JOBS, Workspace

    if (Workspace(dest).jobs / JOBS).exists():
        from medvq.launch.slurm.datasets.pack import forget_ended_jobs

        forget_ended_jobs(dest)
    try:
        with counting("packing") as progress:
            report = pack(
                source, dest, settings, processes=processes or None, on_bad=on_bad, on_leak=on_leak, progress=progress
            )
    except ListedError as e:
        keep_list(e, dest)
        raise
    problems_file(dest).unlink(missing_ok=True)
    return dict(vars(report))


def packed_text(report: dict[str, Any]) -> str:
    """Return the report of a packing as one line of text."""
    splits = ", ".join(f"{name} {n}" for name, n in report["splits"].items())
    left = f", {len(report['skipped'])} skipped" if report["skipped"] else ""
    if report["ignored"]:
        kinds = [f"{n} {kind}" for kind, n in report["ignored_kinds"].items()]
        shown = ", ".join(kinds[:MOST_KINDS]) + (", ..." if len(kinds) > MOST_KINDS else "")
        left += f", {report['ignored']} ignored" + (f" ({shown})" if shown else "")
    return f"{report['dataset']}: {report['written']} images ({splits}){left}, digest {report['digest'][:12]}"


def remarks(report: dict[str, Any]) -> list[str]:
    """Return what was guessed, the leaks that were allowed and the notes of a packing, one line each."""
    from medvq.shards.pack.report import leak_text
    from medvq.shards.source.scan import printable

    guesses = [f"{g['choice']} ({g['evidence']})" for g in report["guesses"]]
    guessed = [f"guessed: {'; '.join(guesses)}"] if guesses else []
    lines = [f"leak between splits: {leak_text(found)}" for found in report["leaks"]]
    lines += [f"note: {note}" for note in report["notes"]]
    rest = f"and {len(lines) - MOST_LINES} more in {Path(report['dataset']) / 'manifest.json'}"
    more = [rest] if len(lines) > MOST_LINES else []
    shown = [printable(line) for line in [*guessed, *lines[:MOST_LINES]]]
    return [line if len(line) <= 300 else line[:297] + "..." for line in shown] + more


def inspect_text(facts: dict[str, Any]) -> str:
    """Return the output of `medvq inspect`."""
    image, statistics, sizes = facts["image"], facts["statistics"], facts["sizes"]
    size = f"{image['width']}×{image['height']}" if len(sizes) == 1 else f"{len(sizes)} sizes"
    lines = [f"{facts['name']}: {facts['samples']} images, {size}, digest {facts['digest'][:12]}"]
    if len(sizes) > 1:
        shown = ", ".join(f"{width}×{height}: {n}" for width, height, n in sizes[:MOST_SIZES])
        more = f", and {len(sizes) - MOST_SIZES} more sizes" if len(sizes) > MOST_SIZES else ""
        lines.append(f"width×height {shown}{more}")
    every = facts["classes"]
    names = every[:MOST_CLASSES]
    rows = [["", "images", "masks", "groups", *names]]
    for split, found in facts["splits"].items():
        counts = [str(found["classes"].get(n, 0)) for n in names]
        rows.append([split, str(found["samples"]), str(found["masks"]), str(found["groups"] or "-"), *counts])
    for percent, n in facts["subsets"].items():
        if percent != "100":
            counts = [str(facts["subset_classes"][percent].get(name, 0)) for name in names]
            rows.append([f"{percent} % of train", str(n), "", "", *counts])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines += ["", *("  " + "  ".join(t.rjust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows)]
    if len(every) > len(names):
        lines.append(f"  and {len(every) - len(names)} more classes: --json has all")
    mean, std = (" ".join(f"{v:.4f}" for v in statistics[k]) for k in ("mean", "std"))
    lines += ["", f"mean {mean}, std {std} of {statistics['split']}, pixels in [0, 1]"]
    lines.append(", ".join(f"{n} {what}" for what, n in facts["counts"].items()))
    for rows_of in (
        [f"skipped {row['path']}: {row['reason']}" for row in facts["skipped"]],
        [f"note: {note}" for note in facts["notes"]],
    ):
        lines += rows_of[:MOST_LINES]
        if len(rows_of) > MOST_LINES:
            lines.append(f"and {len(rows_of) - MOST_LINES} more in {Path(facts['dataset']) / 'manifest.json'}")
    if facts["leaks"]["found"]:
        lines.append(f"leaks between splits, reported and allowed: {len(facts['leaks']['found'])}")
    return "\n".join(lines)
