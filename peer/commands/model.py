"""``susurrus model``: show, export and use the newest model that the running peer holds.

Neighbours: the peer's ``/model`` gives the state (little-endian float32) and says in the header ``X-Susurrus-Model``
(JSON) what it is; ``/task`` gives the task's canonical encoding; ``peer.learning`` predicts.
Invariants: the records named by ``--data`` stay in this process; nothing is overwritten by ``export``.
"""

import csv
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peer.admin_client import ask
from peer.commands.common import HomeOption, JsonOption, home_path, print_json, say, shown
from peer.errors import PeerError
from peer.files import write_atomic
from protocol.base.errors import ConfigurationError, Refused

if TYPE_CHECKING:
    from protocol.training.task import Task
    from protocol.wire.messages import Checkpoint

TaskOption = Annotated[
    str | None, typer.Option("--task", metavar="ID", help="Which task's.  [default: the newest]", show_default=False)
]
HEADER = "x-susurrus-model"

app = typer.Typer(help="The newest model that this peer holds.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class Held:
    """A model as the peer handed it over."""

    about: dict[str, Any]
    """At least ``task`` (id) and ``age``."""
    task: "Task"
    checkpoint: "Checkpoint"


@app.command()
def show(home: HomeOption = None, task: TaskOption = None, as_json: JsonOption = False) -> None:
    """Say which model the peer holds, and how good it is on the peer's own held-out records."""
    about, state = _fetch(home_path(home), task)
    about.setdefault("parameters_bytes", len(state))
    if as_json:
        print_json(about)
        return
    width = max(len(name) for name in about) + 2
    typer.echo("\n".join(f"{name.replace('_', ' '):<{width}}{shown(value)}" for name, value in about.items()))


@app.command()
def export(
    output: Annotated[Path, typer.Argument(metavar="FILE", help="A new .npz file.", show_default=False)],
    home: HomeOption = None,
    task: TaskOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the model to an NPZ file: parameters, feature statistics, and what they belong to."""
    import io

    import numpy as np

    from protocol.training import state

    output = output.expanduser().absolute()
    if output.exists() or output.is_symlink():  # a link that leads nowhere yet is somebody's too
        raise ConfigurationError([f"{output} exists already; name a new file"])
    held = _hold(home_path(home), task)
    arrays: dict[str, Any] = {
        "parameters": state.parameters(held.task, held.checkpoint),
        "age": np.int64(held.checkpoint.age),
        "model": np.str_(held.task.model),
        "hyper": np.str_(json.dumps(dict(held.task.hyper))),
        "task": np.str_(held.task.id.hex()),
        "features": np.array(held.task.features, dtype=np.str_),
        "classes": np.array(held.task.classes, dtype=np.str_),
        "ranges": np.array(held.task.ranges, dtype=np.float64),
        "target": np.str_(held.task.target),
        "target_range": np.array(held.task.target_range, dtype=np.float64),
    }
    statistics = state.statistics(held.task, held.checkpoint)
    if statistics is not None:
        arrays["mean"], arrays["variance"] = statistics
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(output, buffer.getvalue(), 0o644)
    if as_json:
        print_json({"file": str(output), "task": held.task.id.hex(), "age": held.checkpoint.age})
    else:
        say(f"wrote the model at age {held.checkpoint.age} of task {held.task.name!r} to {output}")


@app.command()
def predict(
    data: Annotated[Path, typer.Option(metavar="FILE", help="Records: CSV, NPZ or LIBSVM.", show_default=False)],
    home: HomeOption = None,
    task: TaskOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict with the model; one prediction a line, as CSV on standard output.

    Records are read as the peer reads its own: by the format and the features in its config.toml.
    """
    from peer.config import DataBinding, load_config
    from peer.learning.application import read_bound
    from peer.learning.trainer import predict_records
    from protocol.training import state

    path = home_path(home)
    held = _hold(path, task)
    config = load_config(path, {})
    data, schema = data.expanduser(), held.task.schema
    binding = replace(config.data.get(schema, DataBinding(schema, data)), path=data)
    records = read_bound(held.task, binding, labels=False)
    parameters = state.parameters(held.task, held.checkpoint)
    statistics = state.statistics(held.task, held.checkpoint)
    predictions = predict_records(held.task, parameters, statistics, records.X, own_models=config.models)
    if as_json:
        print_json({"task": held.task.id.hex(), "age": held.checkpoint.age, "predictions": predictions})
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([held.task.target or "prediction"])
    writer.writerows([prediction] for prediction in predictions)


def _fetch(home: Path, task: str | None) -> tuple[dict[str, Any], bytes]:
    """What the model is, and its state."""
    answer = ask(home, "/model", task=task)
    try:
        about = json.loads(answer.headers[HEADER])
        about["task"], about["age"] = str(about["task"]), int(about["age"])
    except (KeyError, ValueError, TypeError) as error:
        raise PeerError("the peer's answer cannot be read; is it of another version of susurrus?") from error
    return about, answer.body


def _hold(home: Path, task: str | None) -> Held:
    """The model with its task, checked against each other."""
    from protocol.training import state
    from protocol.training.task import decode
    from protocol.wire.messages import Checkpoint

    about, content = _fetch(home, task)
    try:
        described = decode(ask(home, "/task", task=about["task"]).body)
        checkpoint = Checkpoint(described.id, about["age"], content)
        state.view(described, checkpoint)
    except Refused as refused:
        raise PeerError(f"the peer's answer cannot be used: {refused}") from refused
    return Held(about, described, checkpoint)
