"""A task written as a TOML file that ``taskfile.load_task`` reads back equal.

Neighbours: ``peer.demo`` introduces its task through such a file, as a user would; ``peer.toml`` quotes.
Invariants: ``load_task(task_to_toml(task)) == task``.
"""

from typing import Any

from peer.learning.datasets import DATASETS, Schema, schema
from peer.toml import key, quoted
from protocol.training.task import Task


def task_to_toml(task: Task) -> str:
    """The file's text, every value spelled out."""
    sections: dict[str, dict[str, Any]] = {
        "task": {
            "name": task.name,
            "public_data": task.public_data,
            "model": task.model,
            "hyper": dict(task.hyper),
        },
        "data": {
            "schema": task.schema,
            "features": list(task.features),
            "target": task.target,
            "classes": list(task.classes),
            "ranges": [list(pair) for pair in task.ranges],
            "target_range": list(task.target_range),
            "statistics_rounds": task.statistics_rounds,
        },
        "training": {
            "learning_rate": task.learning_rate,
            "learning_rate_decay": task.learning_rate_decay,
            "momentum": task.momentum,
            "weight_decay": task.weight_decay,
            "batch_per_peer": task.batch_per_peer,
            "steps": task.steps,
            "loss_bound": task.loss_bound,
            "seed": task.initial_seed,
        },
        "aggregation": {
            "collusion_threshold": task.collusion_threshold,
            "minimum_cohort": task.minimum_cohort,
            "branching": task.branching,
            "cohort": task.cohort,
            "modulus_bits": task.modulus_bits,
            "clip": task.clip,
            "walks": task.walks,
        },
    }
    if task.schema in DATASETS and described(task) == schema(task.schema):
        sections["data"] = {"schema": task.schema, "statistics_rounds": task.statistics_rounds}
    elif task.classes:
        del sections["data"]["target_range"]
    else:
        del sections["data"]["classes"]
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{name} = {_value(value)}" for name, value in values.items()), ""]
    return "\n".join(lines)


def described(task: Task) -> Schema:
    """What the task says of its data."""
    return Schema(task.schema, task.features, task.target, task.classes, task.ranges, task.target_range)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case list():
            return f"[{', '.join(_value(item) for item in value)}]"
        case dict():
            return "{" + ", ".join(f"{key(name)} = {_value(item)}" for name, item in value.items()) + "}"
        case _:
            return repr(value)
