"""The commands shard, verify, inspect and synth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medvq.cli.options import DryRun, Json, OnCluster, Wait, print_json
from medvq.errors import DataError, UsageError

if TYPE_CHECKING:
    from medvq.shards.dataset.verify import Finding

Dest = Annotated[Path, typer.Argument(metavar="DEST", help="Folder of a packed dataset.")]


def shard(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder of images, .npz file, or .tar shards.")],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Folder to create.")],
    recipe: Annotated[
        str | None, typer.Option(help="Path of a recipe, or its name in ./shards or among the shipped ones.")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="N|HxW", help="Resize images, in pixels.")] = None,
    store: Annotated[str | None, typer.Option(metavar="auto|png|jpeg|npy", help="How pixels are stored.")] = None,
    opaque_keys: Annotated[
        bool, typer.Option("--opaque-keys", help="Leave file names and group names out of the keys.")
    ] = False,
    processes: Annotated[int, typer.Option(help="Number of processes that read images; 0 for one per core.")] = 0,
    on_bad: Annotated[
        str | None, typer.Option(metavar="fail|skip", help="What to do with images that are unreadable or wrong.")
    ] = None,
    on_leak: Annotated[
        str | None, typer.Option(metavar="fail|report", help="What to do if splits share patients or images.")
    ] = None,
    profile: OnCluster = None,
    wait: Wait = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Pack a folder of images into a dataset of WebDataset shards.

    medvq shard data/smear datasets/smear

    medvq shard data/slides datasets/slides --profile cpu --wait
    """
    from medvq.cli.on_cluster import pack_on_cluster, refuse_wait
    from medvq.cli.packing import check_options, pack_folder, packed_text, remarks, settings_of

    settings = settings_of(recipe, size=size, store=store, opaque_keys=opaque_keys)
    check_options(processes, on_bad, on_leak)
    report: dict[str, Any] | None
    if profile is None:
        refuse_wait(wait)
        report = pack_folder(source, dest, settings, processes, on_bad, on_leak, dry_run=dry_run)
    else:
        report = pack_on_cluster(
            source, dest, settings, processes=processes, on_bad=on_bad, on_leak=on_leak, profile=profile, wait=wait,
            dry_run=dry_run, as_json=as_json,
        )  # fmt: skip
    if report is None:
        return
    for line in [] if dry_run else remarks(report):
        typer.echo(line, err=True)
    if as_json:
        print_json(report)
    elif dry_run:
        typer.echo(report["text"])
    else:
        typer.echo(packed_text(report))


def verify(
    dest: Dest,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every image as well.")] = False,
    profile: OnCluster = None,
    wait: Wait = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Check every byte of a dataset against its manifest.

    medvq verify datasets/smear --deep

    medvq verify datasets/slides --deep --profile cpu --wait
    """
    from medvq.cli.on_cluster import refuse_wait, verify_on_cluster
    from medvq.cli.packing import MOST_LINES

    findings: list[Finding] | None
    if profile is None:
        refuse_wait(wait)
        if dry_run:
            raise UsageError("verify changes nothing here", where="--dry-run", hint="it goes with --profile")
        from medvq.shards.dataset.verify import verify as check

        findings = check(dest, deep=deep)
    else:
        findings = verify_on_cluster(dest, deep=deep, profile=profile, wait=wait, dry_run=dry_run, as_json=as_json)
    if findings is None:
        return
    if as_json:
        problems = [{"shard": f.shard, "key": f.key, "problem": f.problem} for f in findings]
        print_json({"ok": not findings, "problems": problems})
        raise typer.Exit(DataError.code if findings else 0)
    if findings:
        lines = [": ".join(filter(None, [f.shard, f.key, f.problem])) for f in findings[:MOST_LINES]]
        if len(findings) > MOST_LINES:
            lines.append(f"and {len(findings) - MOST_LINES} more: --json has all")
        raise DataError(
            f"{len(findings)} problems\n  " + "\n  ".join(lines), where=str(dest), hint="pack it again from its source"
        )
    typer.echo(f"{dest}: every byte is as it was packed")


def inspect(
    dest: Dest,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write a contact sheet.")] = None,
    as_json: Json = False,
) -> None:
    """Show the content of a dataset: counts, sizes, statistics.

    medvq inspect datasets/smear --sheet sheet.png
    """
    from medvq.cli.packing import inspect_text
    from medvq.shards.dataset import summary as look

    facts = look.describe(dest)
    if sheet:
        look.sheet(dest, sheet)
        if len(facts["classes"]) > look.MOST_ROWS:
            typer.echo(f"note: {sheet} shows the first {look.MOST_ROWS} of {len(facts['classes'])} classes", err=True)
    if as_json:
        print_json(facts)
    else:
        typer.echo(inspect_text(facts))


def synth(
    what: Annotated[str, typer.Argument(metavar="smear", help="What to draw.")],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Folder to create.")],
    samples: Annotated[int, typer.Option(min=30, help="Number of images in all splits together.")] = 2000,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Width and height in pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random images.")] = 0,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Draw a synthetic blood smear.

    It has five classes of white cells, masks, patients, and the splits train, val and test.

    medvq synth smear data/smear
    """
    if what != "smear":
        raise UsageError(f"cannot draw {what!r}", hint="known: smear")
    from medvq.cli.progress import counting
    from medvq.shards.synth.smear import smear

    with counting("drawing") as progress:
        facts = smear(dest, samples=samples, size=size, seed=seed, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(facts)
        return
    splits = ", ".join(f"{name} {found['samples']}" for name, found in facts["splits"].items())
    would = ", none is drawn yet" if dry_run and facts["drawn"] else ""
    typer.echo(f"{dest}: {samples} images of {size} px ({splits}){would}")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (shard, verify, inspect, synth):
        app.command()(command)
