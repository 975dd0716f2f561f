"""Find the datasets of a study, and draw synthetic ones."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medvq.config.data import Ingredient, Source, Synthetic
from medvq.config.resolve import Study
from medvq.errors import MedvqError, NotFoundError, UsageError, suggest
from medvq.files import make_folder
from medvq.runs.spec import DatasetRef
from medvq.shards.dataset.manifest import Manifest, read_manifest

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A dataset that exists."""

    ref: DatasetRef
    manifest: Manifest


def used_data(study: Study, jobs: Iterable[str]) -> dict[str, Source]:
    """Return the entries of `data` that the jobs read."""
    names = dict.fromkeys(p.config.data.use for job in jobs for p in study.jobs[job])
    return {name: study.data[name] for name in names}


def place_of(origin: Source | Ingredient, path: str | None, name: str, datasets: Path, study_folder: Path) -> Path:
    """Return the folder of a dataset, which may not exist yet; `path` is the value of `--data` for it."""
    if path is not None:
        return Path(path).resolve()
    if origin.synth:
        synth = origin.synth
        seed = f"-{synth.seed}" if synth.seed else ""
        return (study_folder / "datasets" / f"{synth.name}-{synth.samples}-{synth.size}{seed}").resolve()
    if origin.dataset is None:
        raise UsageError(f"the study does not say where {name} is", hint=f"give it: --data {name}=FOLDER")
    there = Path(origin.dataset)
    return (there if there.is_absolute() else datasets / there).resolve()


def given_for(study: Study, given: Mapping[str, str]) -> dict[str, str]:
    """Resolve the names of `--data`: `NAME=…` for an entry, `NAME.PART=…` or `PART=…` for a part of a mixture.

    Raises:
        UsageError: the study has no such dataset.
    """
    known = {name: entry for entry, source in study.data.items() for name in source.origins(entry)}
    out: dict[str, str] = {}
    for name, path in given.items():
        meant = [name] if name in known else [k for k in known if k.endswith(f".{name}")]
        if not meant:
            raise UsageError(f"the study has no data named {name!r}", where=f"--data {name}", hint=suggest(name, known))
        out |= dict.fromkeys(meant, path)
    return out


def find_data(
    study: Study,
    jobs: Iterable[str],
    *,
    given: Mapping[str, str],
    datasets: Path,
    study_folder: Path,
    make: Say | None,
    absent: dict[str, MedvqError] | None = None,
) -> dict[str, Found | None]:
    """Return the datasets that jobs read, by name.

    Args:
        study: the study.
        jobs: names of its jobs.
        given: folders from `--data`, by dataset.
        datasets: the folder of packed datasets.
        study_folder: the folder of the study's runs, which also holds synthetic datasets.
        make: is told when a missing synthetic dataset is drawn; with None it is not drawn, and its value is None.
        absent: if given, a dataset that cannot be read has the value None, and its error is added here.

    Raises:
        UsageError: `given` names a dataset that the study does not have.
        NotFoundError: a dataset does not exist.
        DataError: the manifest of a dataset is damaged.
    """
    paths = given_for(study, given)
    found: dict[str, Found | None] = {}
    for entry, source in used_data(study, jobs).items():
        for name, origin in source.origins(entry).items():
            found[name] = None
            try:
                path = place_of(origin, paths.get(name), name, datasets, study_folder)
                if origin.synth and name not in paths and not (path / "manifest.json").exists():
                    if make is None:
                        continue
                    draw(origin.synth, path, make)
                found[name] = _at(path, name)
            except MedvqError as e:
                if absent is None:
                    raise
                absent[name] = e
    return found


def _at(path: Path, name: str) -> Found:
    """Return the dataset in the folder `path`.

    Raises:
        NotFoundError: it does not exist. DataError: its manifest is damaged.
    """
    try:
        manifest = read_manifest(path)
    except NotFoundError as e:
        raise NotFoundError(
            f"no dataset for {name}",
            where=str(path),
            hint=f"pack one with `medvq shard SOURCE {path}`, or point to one with --data {name}=FOLDER",
        ) from e
    return Found(ref=DatasetRef(path=str(path), digest=manifest.digest, name=manifest.name), manifest=manifest)


def draw(synth: Synthetic, path: Path, say: Say) -> None:
    """Draw and pack a synthetic dataset. If two processes call this at once, only one of them draws it."""
    from medvq.config.locate import find
    from medvq.config.recipe import load_recipe
    from medvq.shards.pack.pack import pack
    from medvq.shards.synth.smear import smear

    make_folder(path.parent)
    with open(path.parent / f".{path.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (path / "manifest.json").exists():
            return
        say(f"drawing {synth.samples} synthetic images of {synth.size} px")
        tree = path.parent / f".{path.name}.tree"
        smear(tree, samples=synth.samples, size=synth.size, seed=synth.seed)
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
