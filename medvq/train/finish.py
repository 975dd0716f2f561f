"""The end of a run that is trained: its chosen checkpoint is evaluated, and artifacts and the result are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medvq.files import make_folder, remove_folder, replace_folder, write_json
from medvq.runs import events
from medvq.runs.artifacts.predictions import name_of, write_predictions
from medvq.runs.artifacts.watched import watched_metrics
from medvq.train import checkpoint
from medvq.train.performance import eager
from medvq.train.recorder import Recorder
from medvq.train.session import Session
from medvq.train.tasks.base import Evaluated


def finish(session: Session, recorder: Recorder) -> None:
    """Evaluate the chosen checkpoint on all measured splits; put artifacts and result.json into place together.

    All ranks evaluate, rank 0 writes.
    """
    spec, folder, world = session.spec, recorder.folder, session.world
    which = session.info.default_checkpoint if spec.source.held_out else "last"
    chosen = world.broadcast(checkpoint.find(folder.checkpoints, which) if world.is_main else None)
    checkpoint.load_model(chosen, session.task.model)
    found = session.evaluate_splits(spec.source.measured)
    metrics = session.metrics(found)
    if not world.is_main:
        return
    recorder.progress.show(session.position.step, session.loss_sync.latest, phase="writing the result")
    history = events.epochs(events.read(folder.events))
    artifacts = _write_artifacts(session, recorder, found, history)
    result = {
        "run": spec.run,
        "identity": spec.identity,
        "job": spec.job,
        "values": spec.values,
        "task": spec.config.task,
        "checkpoint": which,
        "epoch": checkpoint.read_state(chosen)["position"]["epoch"],
        "epochs": spec.config.train.epochs,
        "steps": session.position.step,
        "samples": {split: len(loader.view) for split, loader in session.loaders.items()},
        "train_classes": session.class_counts(),
        **({"shares": session.shares()} if spec.source.mix else {}),
        "metrics": {**metrics, **_watched(session, history)},
    }
    events.append(folder.events, recorder.owner, "done", step=session.position.step)
    with recorder.owner.writing():
        replace_folder(artifacts, folder.artifacts)
        write_json(folder.result, result)


def _watched(session: Session, history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the metrics that summarise the test split over epochs; empty if the run does not watch test."""
    if not session.watches_test:
        return {}
    tests = {n: better for n, better in session.info.declared.items() if n.split("/")[0] in ("test", "val+test")}
    return watched_metrics(history, tests, best_on_test="best_on_test" in session.spec.config.as_published)


def _write_artifacts(
    session: Session, recorder: Recorder, found: Mapping[str, Evaluated], history: Sequence[Mapping[str, Any]]
) -> Path:
    """Write predictions and pictures into a temporary folder beside their place; return it.

    Another attempt may have taken the run over: what is written here appears only if this one still owns the run.
    """
    from medvq.runs.artifacts.figures import curves

    place = recorder.folder.artifacts
    with recorder.owner.writing():
        for old in place.parent.glob(f".{place.name}.*.tmp"):
            remove_folder(old)
    beside = make_folder(place.with_name(f".{place.name}.{recorder.owner.attempt}.tmp"))
    source = session.spec.source
    shown = (source.held_out or ("train",))[-1]
    session.task.eval()
    with eager(session.spec.config.resources):
        for split, measured in found.items():
            if "+" not in split:
                write_predictions(beside / name_of(split), session.columns(measured))
        session.task.write_artifacts(beside, found[shown], session.batch_builder.gallery(session.loaders[shown].view))
    curves(history, beside / "curves.png")
    return beside
