"""A scenario: everything that one simulated run is made of, but its seed; parsed from plain data.

Neighbours: ``run`` makes a world of it; the parsers of ``network_model``, ``churn``, ``faults`` and ``distributions``
read its parts; ``peer.laboratory`` reads files into plain data.
Invariants: frozen; what a scenario holds is possible; every mistake in plain data is a sentence with its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from protocol.base.errors import ConfigurationError
from protocol.base.printing import shown
from protocol.base.settings import PRESETS, WAN, Settings
from protocol.simulation import churn, faults, network_model
from protocol.simulation.churn import Always
from protocol.simulation.costs import Costs
from protocol.simulation.distributions import Distribution, field_of
from protocol.simulation.faults import Fault
from protocol.simulation.network_model import NetworkModel
from protocol.simulation.plain import Table
from protocol.simulation.sessions import ChurnModel
from protocol.training.task import Task

MAX_PEERS = 1_000_000
MAX_EXACT_COORDINATES = 50_000_000
"""Peers times coordinates of an exact run: vectors of all of them lie in memory at once at worst."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run but for its seed.  Times are seconds."""

    peers: int
    seconds: float
    """Virtual time that is measured, after ``warm_up_s``."""
    task: Task
    warm_up_s: float = 60.0
    """Before the task is introduced and anything is counted: peers find each other."""
    settings: Settings = WAN
    network: NetworkModel = field(default_factory=lambda: network_model.PRESETS["wan"])
    churn: ChurnModel = field(default_factory=Always)
    faults: tuple[Fault, ...] = ()
    costs: Costs = field(default_factory=Costs)
    slowness: Distribution | None = None
    """How many times as long as ``costs`` a peer's work takes, drawn once for each peer; None: once."""
    exact: bool = False
    """Everything is computed, sums and cryptography; else both are modelled."""
    seeds: int = 3
    """Peers 0 to ``seeds - 1`` are where others join: always online, and everybody can connect with them."""
    join_s: float = 10.0
    """Who is online at the beginning starts within so many seconds."""
    goodbye: float = 0.0
    """The share of sessions that end with a goodbye instead of in silence."""


def plain_task(**changes: Any) -> Task:
    """A task for simulations: digits' size, sixteen contributions, S = 3; ``changes`` as in ``Task``."""
    features = int(changes.pop("features", 2))
    task = Task(
        name="simulation", public_data=True, model="softmax", hyper=(), schema="simulation",
        features=tuple(f"f{i}" for i in range(features)), target="y", classes=("0", "1"),
        ranges=((-1.0, 1.0),) * features, target_range=(0.0, 0.0), statistics_rounds=0, dimension=650,
        learning_rate=0.5, learning_rate_decay=0.0, momentum=0.0, weight_decay=0.0, batch_per_peer=32,
        steps=100_000, collusion_threshold=3, minimum_cohort=4, branching=2, cohort=16, modulus_bits=32, clip=1.0,
        loss_bound=10.0, walks=1, initial_seed=0,
    )  # fmt: skip
    if "collusion_threshold" in changes and "minimum_cohort" not in changes:
        changes["minimum_cohort"] = changes["collusion_threshold"] + 1
    return replace(task, **changes)


_TASK_WHOLE = (
    "dimension",
    "collusion_threshold",
    "minimum_cohort",
    "branching",
    "cohort",
    "modulus_bits",
    "walks",
    "batch_per_peer",
    "steps",
    "statistics_rounds",
)
KEYS = tuple(f.name for f in fields(Scenario) if f.name != "exact")
"""Names of a scenario's own keys, and ``cost``."""


def parse(data: object, place: str, seed: int, texts: Mapping[str, str] | None = None) -> Scenario:
    """The scenario that plain data tells: the fields of ``Scenario``, each left out at its default, and ``cost``
    (``modelled`` or ``exact``) for ``exact``.

    ``task``: whole numbers of ``Task``.  ``settings``: a preset's name, or a table of ``preset`` and the fields of
    ``Settings`` that differ.  ``costs``: the fields of ``Costs``.  ``seed``: of the churn.  ``texts``: of trace files.
    Raises ``ConfigurationError`` with all mistakes.
    """
    problems: list[str] = []
    table = Table(data, place, problems)
    peers = table.whole("peers", least=1, most=MAX_PEERS)
    seconds = table.number("seconds", above=0.0)
    task = _task(table)
    model = _part(table, "network", problems, lambda d, at: network_model.parse(d, at), network_model.PRESETS["wan"])
    sessions = _part(table, "churn", problems, lambda d, at: churn.parse(d, at, seed, texts), Always())
    broken = _part(table, "faults", problems, lambda d, at: faults.parse(d, at, peers), ())
    cost = table.word("cost", ("modelled", "exact"), "modelled")
    scenario = Scenario(
        peers=peers,
        seconds=seconds,
        task=task,
        warm_up_s=table.number("warm_up_s", 60.0),
        settings=_numbers(table, "settings", PRESETS[_preset(table)]),
        network=model,
        churn=sessions,
        faults=broken,
        costs=_numbers(table, "costs", Costs()),
        slowness=field_of(table, "slowness", None, positive=True),
        exact=cost == "exact",
        seeds=table.whole("seeds", 3, least=1),
        join_s=table.number("join_s", 10.0),
        goodbye=table.number("goodbye", 0.0, most=1.0),
    )
    table.close()
    if not problems:
        problems += _impossible(scenario, place)
    if problems:
        raise ConfigurationError(problems)
    return scenario


def _impossible(scenario: Scenario, place: str) -> list[str]:
    problems = []
    known = scenario.churn.population
    if known is not None and known < scenario.peers:
        problems.append(f"{place}.peers is {scenario.peers}, but the trace of {place}.churn has {known}")
    if scenario.peers <= scenario.task.collusion_threshold:
        problems.append(f"{place}.peers must be more than task.collusion_threshold: no cohort could be published")
    if scenario.exact and scenario.peers * scenario.task.dimension > MAX_EXACT_COORDINATES:
        problems.append(
            f'{place}.cost = "exact" takes at most {MAX_EXACT_COORDINATES} coordinates over all peers, not '
            f'{scenario.peers} x {scenario.task.dimension}: use "modelled"'
        )
    return problems


def _task(table: Table) -> Task:
    inner = Table(table.get("task", {}), table.at("task"), table.problems)
    found = {key: inner.whole(key) for key in _TASK_WHOLE if key in inner}
    inner.close()
    if not inner.ok:
        return plain_task()
    task = plain_task(**found)
    try:
        task.validate()
    except ConfigurationError as error:
        table.problems += [f"{inner.place}: {problem}" for problem in error.problems]
    return task


def _preset(table: Table) -> str:
    data = table.get("settings", "wan")
    name = data.get("preset", "wan") if isinstance(data, Mapping) else data
    if isinstance(name, str) and name in PRESETS:
        return name
    table.say(f"{table.at('settings')} names the preset {shown(name)}: one of {', '.join(PRESETS)}")
    return "wan"


def _numbers(table: Table, key: str, base: Any) -> Any:
    """A dataclass of numbers with those changed that a table gives; a bare preset's name changes none."""
    data = table.get(key, {})
    if isinstance(data, str):
        return base
    inner = Table(data, table.at(key), table.problems)
    if key == "settings":
        inner.get("preset")
    changes: dict[str, Any] = {}
    for one in fields(base):
        if one.name in inner:
            whole = isinstance(getattr(base, one.name), int)
            changes[one.name] = inner.whole(one.name, least=1) if whole else inner.number(one.name)
        else:
            inner.get(one.name)
    inner.close()
    return replace(base, **changes)


def _part(table: Table, key: str, problems: list[str], read: Any, default: Any) -> Any:
    data = table.get(key)
    if data is None:
        return default
    try:
        return read(data, table.at(key))
    except ConfigurationError as error:
        problems += error.problems
        return default
