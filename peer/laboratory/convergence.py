"""The kind ``convergence``: how fast a model gets good, by algorithm, in steps and in virtual time.

Neighbours: ``kinds`` lists it; ``learning`` has peers with records and the judge, ``gossip`` plain gossip SGD,
``peer.learning.centralised`` the yardstick; everything else is the protocol, simulated.
Invariants: those of a kind; with one ``split`` all algorithms start from one model and are judged by the same records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peer.laboratory import gossip
from peer.laboratory.learning import Curve, Judge, Point, Records, Shards, records_of
from peer.laboratory.network import scenario_problems
from peer.learning.centralised import train_centralised
from peer.learning.datasets import DATASETS, facts
from peer.learning.models import model_for
from peer.learning.partition import parse_spec, partition
from peer.learning.taskfile import task_for_dataset
from protocol.base.errors import ConfigurationError
from protocol.simulation import churn, scenario
from protocol.simulation.costs import Exact
from protocol.simulation.network import Network
from protocol.simulation.plain import Table
from protocol.simulation.run import prepare
from protocol.simulation.scenario import Scenario
from protocol.simulation.sessions import ChurnModel
from protocol.simulation.streams import generator, number
from protocol.training.task import Task
from protocol.wire.messages import Checkpoint

if TYPE_CHECKING:
    from peer.laboratory.kinds import Row

ALGORITHMS = ("centralised", "susurrus", "churn", "one-record", "gossip")
LEAST_RECORDS = 8
"""Of a peer with several."""
TEST_SHARE = 0.2


class Convergence:
    """Parameters:

    ``algorithm``: ``centralised`` (mini-batch SGD on pooled records), ``susurrus`` (this protocol, everybody online),
    ``churn`` (the same under ``churn``), ``one-record`` (one record at each peer, everybody online) or ``gossip``.
    ``dataset``; ``steps``; ``every``: a point each so many steps (of ``gossip``: each ``every * cohort``);
    ``partition`` (``iid``); ``target``: an accuracy (0.9).
    ``split`` (0): the seed of the test records and of the initial model: the same whatever the run's own seed.
    ``cohort``, ``batch_per_peer``: a mini-batch is their product, for ``centralised`` too.
    ``collusion_threshold``, ``branching``, ``modulus_bits``; ``learning_rate`` and ``learning_rate_decay``, if not as
    usual for the data set.
    ``scenario``: a scenario's ``peers``, ``seconds``, ``network``, ``settings``, ``costs``, ... without task and churn.
    ``churn``: for the algorithm of that name.  ``one_record``: ``peers`` (0: a peer for each training record),
    ``cohort``, ``seconds``, and its own learning rate.  ``gossip``: ``steps``, and its own learning rate.

    Rows: ``algorithm``, ``dataset``, ``step``, ``records`` (looked at so far), ``at_s`` (virtual seconds since the
    task's introduction), ``accuracy`` and ``loss`` on records that no peer holds.  In the last row of a run only:
    ``final_accuracy``, ``final_s``, and ``reached_step``, ``reached_records`` and ``reached_s`` of the first point with
    the target accuracy (None: never).
    """

    name = "convergence"
    axes = ("step", "records", "at_s")

    def files(self, parameters: Mapping[str, Any]) -> list[str]:
        """The trace's."""
        return churn.files(parameters.get("churn"))

    def check(self, parameters: Mapping[str, Any], place: str) -> list[str]:
        """All mistakes."""
        problems: list[str] = []
        _read(parameters, place, 0, problems)
        return problems

    def run(self, parameters: Mapping[str, Any], seed: int) -> "list[Row]":
        """One training."""
        problems: list[str] = []
        plan = _read(parameters, "parameters", seed, problems)
        if problems:
            raise ConfigurationError(problems)
        records = records_of(plan.task.schema, plan.split)
        points = _ALGORITHMS[plan.algorithm](plan, records, seed)
        rows: list[Row] = [
            {
                "algorithm": plan.algorithm,
                "dataset": plan.task.schema,
                "step": p.step,
                "records": p.step * plan.batch,
                "at_s": p.seconds,
                "accuracy": p.accuracy,
                "loss": p.loss,
            }
            for p in points
        ]
        reached = next((p for p in points if p.accuracy >= plan.target), None)
        for row in rows:
            row |= dict.fromkeys(("final_accuracy", "final_s", "reached_step", "reached_records", "reached_s"))
        if rows:
            rows[-1] |= {"final_accuracy": points[-1].accuracy, "final_s": points[-1].seconds}
        if reached is not None:
            rows[-1] |= {
                "reached_step": reached.step,
                "reached_records": reached.step * plan.batch,
                "reached_s": reached.seconds,
            }
        return rows


@dataclass(frozen=True, slots=True)
class _Plan:
    """The parameters of one run, read."""

    algorithm: str
    task: Task
    every: int
    batch: int
    """Records in one step."""
    partition: str
    target: float
    split: int
    world: Scenario
    churn: ChurnModel


def _read(parameters: Mapping[str, Any], place: str, seed: int, problems: list[str]) -> _Plan:
    """The plan; mistakes are appended to ``problems``, and a plan with mistakes must not be used."""
    table = Table(parameters, place, problems)
    algorithm = table.word("algorithm", ALGORITHMS) or ALGORITHMS[0]
    dataset = table.word("dataset", DATASETS) or DATASETS[0]
    every = table.whole("every", 1, least=1)
    target = table.number("target", 0.9, most=1.0)
    split = table.whole("split", 0)
    spec = table.get("partition", "iid")
    try:
        parse_spec(spec if isinstance(spec, str) else repr(spec))
    except ConfigurationError as error:
        problems += [f"{place}.{problem}" for problem in error.problems]
    settings: dict[str, Any] = {"steps": table.whole("steps", least=1)}
    for key, default in (("collusion_threshold", 3), ("branching", 2), ("cohort", 16), ("modulus_bits", 32)):
        settings[key] = table.whole(key, default)
    settings["batch_per_peer"] = table.whole("batch_per_peer", 8, least=1)
    records = int(facts(dataset)["records"])
    training = records - int(records * TEST_SHARE)
    table.get("texts")
    world = dict(table.get("scenario", {})) if isinstance(table.get("scenario", {}), Mapping) else table.get("scenario")
    single = Table(table.get("one_record", {}), table.at("one_record"), problems)
    peers = single.whole("peers", 0, most=training) or training
    cohort = single.whole("cohort", settings["cohort"])
    seconds = single.number("seconds", above=0.0) if "seconds" in single else None
    walk = Table(table.get("gossip", {}), table.at("gossip"), problems)
    walk_steps = walk.whole("steps", settings["steps"], least=1)
    own = {"one-record": single, "gossip": walk}.get(algorithm, table)
    for one in (table, single, walk):
        for key in ("learning_rate", "learning_rate_decay"):
            if key in one:
                value = one.number(key)
                settings |= {key: value} if one in (table, own) else {}
    sessions = _churn(table, seed)
    for one in (single, walk, table):
        one.close()
    if algorithm == "one-record":
        settings |= {"cohort": cohort, "batch_per_peer": 1}
    if algorithm == "gossip":
        settings |= {"steps": walk_steps, "batch_per_peer": 1}
    if isinstance(world, dict):
        _scenario_keys(world, table, problems)
        if algorithm == "one-record":
            world |= {"peers": peers} | ({} if seconds is None else {"seconds": seconds})
        elif algorithm in ("centralised", "gossip"):
            world |= {"peers": max(4, settings["cohort"])}
    found = scenario_problems(world if isinstance(world, dict) else {"": world}, table.at("scenario"), own=())
    problems += found
    batch = 1 if algorithm == "gossip" else settings["cohort"] * settings["batch_per_peer"]
    task, read = scenario.plain_task(), Scenario(100, 1.0, scenario.plain_task())
    try:
        initial = number(split, "initial parameters") % 2**31
        task = task_for_dataset(dataset, initial_seed=initial, **settings)
    except ConfigurationError as error:
        problems += [f"{place}: {problem}" for problem in error.problems]
    if not problems:
        read = replace(scenario.parse(world, table.at("scenario"), seed), task=task)
        if algorithm in ("susurrus", "churn") and training < read.peers * LEAST_RECORDS:
            table.say(f"{place}.scenario.peers: {training} records are too few for {read.peers} peers: use less")
    return _Plan(algorithm, task, every, batch, str(spec), target, split, read, sessions)


def _scenario_keys(world: Mapping[str, Any], table: Table, problems: list[str]) -> None:
    for key, instead in (("task", "the keys beside it"), ("churn", table.at("churn")), ("cost", "nothing")):
        if key in world:
            problems.append(f"{table.at('scenario')}.{key} has no place here: use {instead}")


def _churn(table: Table, seed: int) -> ChurnModel:
    try:
        return churn.parse(table.get("churn", "always"), table.at("churn"), seed, table.get("texts"))
    except ConfigurationError as error:
        table.problems += error.problems
        return churn.Always()


# --- the algorithms -----------------------------------------------------------------------------------------------


def _centralised(plan: _Plan, records: Records, seed: int) -> list[Point]:
    judge, points = Judge(plan.task, records), list[Point]()
    each = gossip.step_s(plan.task, plan.batch, plan.world.costs)

    def watch(checkpoint: Checkpoint) -> None:
        step = checkpoint.age - plan.task.statistics_rounds
        if step % plan.every == 0 or step == plan.task.steps:
            points.append(judge.point(checkpoint, step * each))

    steps, peers = plan.task.steps, plan.task.cohort
    train_centralised(plan.task, records.X, records.y, steps=steps, peers=peers, seed=seed, watch=watch)
    return points


def _susurrus(plan: _Plan, records: Records, seed: int) -> list[Point]:
    rng = generator(seed, "partition")
    return _simulated(plan, records, partition(records.y, plan.world.peers, plan.partition, rng, LEAST_RECORDS), seed)


def _with_churn(plan: _Plan, records: Records, seed: int) -> list[Point]:
    return _susurrus(replace(plan, world=replace(plan.world, churn=plan.churn)), records, seed)


def _one_record(plan: _Plan, records: Records, seed: int) -> list[Point]:
    rows = generator(seed, "partition").permutation(len(records.X))[: plan.world.peers]
    return _simulated(plan, records, list(rows.reshape(-1, 1)), seed)


def _simulated(plan: _Plan, records: Records, shards: list[NDArray[np.int64]], seed: int) -> list[Point]:
    """Real nodes with real models and exact sums; only cryptography is modelled."""
    task, judge = plan.task, Judge(plan.task, records)
    first = model_for(task).initial(task.initial_seed)
    run = prepare(plan.world, seed, Shards(task, records, shards), execution=Exact(), parameters=first)
    curve = Curve(judge, plan.every, run.measures.begin)
    run.world.observers.append(curve)
    run.world.run(plan.world.warm_up_s + plan.world.seconds, until=lambda: curve.age >= task.last_age)
    return curve.points


def _gossip(plan: _Plan, records: Records, seed: int) -> list[Point]:
    return gossip.walk(
        plan.task,
        records,
        Judge(plan.task, records),
        steps=plan.task.steps,
        every=lambda step: step % (plan.every * plan.task.cohort) == 0,
        network=Network(plan.world.network, number(seed, "network")),
        costs=plan.world.costs,
        retry_s=plan.world.settings.walk_ack_timeout_s,
        seed=seed,
    )


_ALGORITHMS = {
    "centralised": _centralised,
    "susurrus": _susurrus,
    "churn": _with_churn,
    "one-record": _one_record,
    "gossip": _gossip,
}
