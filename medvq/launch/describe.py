"""Describe a study before it runs: runs, steps, layers, parameters, checkpoint size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medvq.config.as_published import switches
from medvq.config.expand import Point
from medvq.config.locate import known
from medvq.config.task_info import find_task
from medvq.config.yamlfile import read_yaml
from medvq.errors import ConfigError, MedvqError
from medvq.keys import canonical_json
from medvq.launch.data import Found
from medvq.launch.plan import StudyPlan, jobs_for, make_plan
from medvq.launch.start import Request, data_for
from medvq.runs.spec import RunSpec
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.sampling.order import steps_per_epoch

if TYPE_CHECKING:
    from torch import nn

ASSUMED = (64, 64)
"""Height and width in pixels that are assumed if neither the study nor a dataset gives them."""


def studies() -> list[dict[str, str]]:
    """Return name, description and path of every study beside the user and of those shipped."""
    found = []
    for name, path in known("jobs").items():
        try:
            about = str(read_yaml(path).data.get("about", ""))
        except ConfigError as e:
            about = f"cannot be read: {e.error}"
        found.append({"study": name, "about": about, "path": str(path)})
    return found


def studies_text(found: list[dict[str, str]]) -> str:
    """Format studies, one per line."""
    width = max((len(s["study"]) for s in found), default=0)
    return "\n".join(f"{s['study']:<{width}}  {s['about']}" for s in found)


def describe(request: Request, job: str | None) -> dict[str, Any]:
    """Return the facts of all jobs of a study, or of one job."""
    absent: dict[str, MedvqError] = {}
    study, found = data_for(request, absent=absent)
    plan = make_plan(study, found, runs=request.runs, only=request.only)
    return {
        "study": study.name,
        "about": study.about,
        "missing": {name: str(e) for name, e in absent.items()},
        "jobs": {j: _job(plan, j, found) for j in ([job] if job else jobs_for(study, request.only))},
    }


def _job(plan: StudyPlan, job: str, found: dict[str, Found | None]) -> dict[str, Any]:
    specs = [spec for spec in plan.runs if spec.job == job]
    fits = find_task(specs[0].config.task).fits
    first, point = specs[0], plan.study.jobs[job][0]
    source = plan.study.data[point.config.data.use]
    parts = [found.get(name) for name in source.origins(point.config.data.use)]
    there = [data for data in parts if data is not None]
    image = there[0].manifest.image if there else None
    size = source.shape or ((image.height, image.width) if image and image.height and image.width else ASSUMED)
    classes = source.classes or tuple(dict.fromkeys(c for data in there for c in data.manifest.classes))
    shape = (source.channels, *size)
    network = _network(point, shape, len(classes))
    totals = {canonical_json(first.model): network["parameters"]["total"]}
    for spec, other in zip(specs, plan.study.jobs[job], strict=True):
        model = canonical_json(spec.model)
        if model not in totals:
            totals[model] = sum(p.numel() for p in _built(other, shape, len(classes)).parameters())
    return {
        "task": first.config.task,
        "about": first.config.about,
        "input": [source.channels, *size],
        "classes": list(classes),
        **network,
        "as_published": {
            name: {"about": about, "on": name in first.config.as_published}
            for name, about in switches(find_task(first.config.task), point.model).items()
        },
        "config": first.config.model_dump(mode="json", exclude={"model"}) | {"model": first.model},
        "runs": [
            {
                "run": s.run,
                "identity": s.identity,
                "values": s.values,
                "parameters": totals[canonical_json(s.model)],
                "steps": (0 if fits else _steps(s)) if len(there) == len(parts) else None,
                "needs": {role: n.run for role, n in s.needs.items()},
            }
            for s in specs
        ],
    }


def _network(point: Point, shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Return parameters, layers and checkpoint size of a model, without computing with it."""
    from medvq.models.count import count, head_parameters, layers

    network = _built(point, shape, classes)
    counts = count(network)
    head_alone = classes and find_task(point.config.task).head and point.objective.trains_head_alone
    return {
        "parameters": {
            "total": counts.total,
            "trainable": head_parameters(network, shape) if head_alone else counts.trainable,
            "buffers": counts.buffers,
            "published": point.config.published_parameters,
            "not_counted": counts.not_counted,
            "modules": counts.modules,
        },
        "layers": [
            {"name": x.name, "kind": x.kind, "shape": list(x.shape), "parameters": x.parameters}
            for x in layers(network, shape)
        ],
        # Adam keeps two moments beside every weight.
        "checkpoint_bytes": 4 * (3 * counts.total + counts.buffers),
    }


def _built(point: Point, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the model of a point on the meta device, which takes no memory for weights."""
    import torch

    from medvq.models.build import build

    with torch.device("meta"):
        heads = classes if find_task(point.config.task).head else 0
        return build(point.model, input_shape=shape, classes=heads)


def _steps(spec: RunSpec) -> int:
    """Return the number of optimizer steps of a run whose datasets exist."""
    from medvq.train.view import training_view

    train = spec.config.train
    view = training_view(spec, {name: Dataset.open(ref.path) for name, ref in spec.datasets.items()})
    return train.epochs * steps_per_epoch(len(view.order_facts()), train.batch_size)


def text(facts: dict[str, Any]) -> str:
    """Format the result of `describe`."""
    lines = [f"{facts['study']}: {facts['about']}"]
    lines += [f"  data {name}: {why.splitlines()[0]}" for name, why in facts["missing"].items()]
    for name, job in facts["jobs"].items():
        p, c = job["parameters"], job["config"]
        published = f", published {p['published']:,}" if p["published"] else ""
        published += "".join(f" (of these {n:,} {what})" for what, n in p["not_counted"].items())
        trained = f", {p['trainable']:,} trained" if p["trainable"] != p["total"] else ""
        train = c["train"]
        lines += [
            "",
            f"{name}  {job['task']}: {job['about']}",
            f"  input {'×'.join(map(str, job['input']))}; classes: {', '.join(job['classes']) or 'not known yet'}",
            f"  parameters {p['total']:,}{published}{trained}; buffers {p['buffers']:,};"
            f" checkpoint {job['checkpoint_bytes'] / 1e6:.1f} MB",
            f"  train {train['epochs']} epochs, batch {train['batch_size']}, {train['optimizer']['name']}"
            f" lr {train['optimizer']['lr']:g}, {_schedule(train['schedule'])}, {train['precision']}",
            "  layers",
        ]
        lines += [
            f"    {x['name']:<34} {x['kind']:<16} {'×'.join(map(str, x['shape'])):<14} {x['parameters']:>10,}"
            for x in job["layers"]
        ]
        lines.append("  as_published")
        lines += [f"    {'on ' if x['on'] else 'off'} {name}: {x['about']}" for name, x in job["as_published"].items()]
        lines.append("  runs")
        for r in job["runs"]:
            steps = f"{r['steps']} steps" if r["steps"] is not None else "steps unknown before the data are there"
            steps += f", {r['parameters']:,} parameters" if r["parameters"] != p["total"] else ""
            needs = f"  needs {', '.join(r['needs'].values())}" if r["needs"] else ""
            lines.append(f"    {r['run']}  {steps}{needs}")
    return "\n".join(lines)


def _schedule(record: str | dict[str, Any]) -> str:
    """Format a schedule, such as `cosine (t_max 100)`."""
    if isinstance(record, str):
        return record
    rest = ", ".join(f"{key} {value}" for key, value in record.items() if key != "name")
    return f"{record['name']} ({rest})"
