"""Evaluate a task on every sample of a split exactly once, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from medvq.train.tasks.base import Batch, Evaluated, Task
from medvq.train.world import World


def evaluate(task: Task, batches: Iterable[tuple[np.ndarray[Any, Any], Batch]], world: World) -> Evaluated:
    """Return what the task measures on a split, with the rows of all ranks in the order of the view.

    `batches` are this rank's, each with the positions of its samples in the view. The model is in evaluation mode
    meanwhile. Its weights and buffers do not change.
    """
    was_training = task.training
    task.eval()
    positions: list[np.ndarray[Any, Any]] = []
    keys: list[str] = []
    rows: dict[str, list[np.ndarray[Any, Any]]] = {}
    totals: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for where, batch in batches:
            found, sums = task.measure(batch)
            positions.append(where)
            keys += batch.keys
            for name, value in found.items():
                rows.setdefault(name, []).append(value.cpu().numpy())
            for name, value in sums.items():
                totals[name] = totals[name] + value if name in totals else value
    task.train(was_training)
    mine = (
        np.concatenate(positions) if positions else np.empty(0, np.int64),
        keys,
        {n: np.concatenate(v) for n, v in rows.items()},
        {n: v.cpu().numpy() for n, v in totals.items()},
    )
    # A split with fewer samples than ranks leaves some ranks without any.
    parts = [part for part in world.gather(mine) if len(part[0])]
    order = np.argsort(np.concatenate([p[0] for p in parts]), kind="stable")
    all_keys = [k for p in parts for k in p[1]]
    return Evaluated(
        keys=[all_keys[i] for i in order],
        rows={n: np.concatenate([p[2][n] for p in parts])[order] for n in parts[0][2]},
        totals={n: sum(p[3][n] for p in parts) for n in parts[0][3]},
        classes=task.classes,
    )


def joined(parts: Sequence[Evaluated]) -> Evaluated:
    """Return the measurements of several splits as those of one."""
    return Evaluated(
        keys=[key for part in parts for key in part.keys],
        rows={name: np.concatenate([part.rows[name] for part in parts]) for name in parts[0].rows},
        totals={name: np.sum([part.totals[name] for part in parts], axis=0) for name in parts[0].totals},
        classes=parts[0].classes,
    )
