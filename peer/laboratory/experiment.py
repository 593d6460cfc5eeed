"""An experiment: a file that names a kind of run, its parameters, and lists of values to go through.

Neighbours: ``kinds`` checks parameters, ``outline`` reads what the report shows; ``runner`` carries the runs out.
Invariants: frozen; whatever is wrong in a file is told at once, each with its place; every point of an experiment was
checked by its kind; a run's seed depends on the experiment's seed, its point in the sweep and its repeat alone.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from peer.files import read_bytes
from peer.laboratory import outline
from peer.laboratory.kinds import KINDS, Kind, ReadsFiles, Value
from peer.laboratory.outline import Outline
from peer.toml import parsed
from protocol.base.errors import ConfigurationError
from protocol.base.printing import shown
from protocol.simulation import streams
from protocol.simulation.plain import Table

FULL = "full"
"""The scale of an experiment as its file says it."""
MAX_FILE = 1_000_000
MAX_TRACE = 1_000_000_000
MAX_POINTS = 100_000
MAX_REPEATS = 100_000
MAX_RUNS = 1_000_000
VARIANT = "variant"
"""The key under which results name the variant that they are of."""
SEED_BITS = 48
"""Seeds of runs are whole numbers below 2^48: exact in every program that reads a table."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
Sweep = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of the sweep's values."""

    index: int
    values: tuple[tuple[str, Value], ...]
    """By key of the sweep; a value that is a list or a table as JSON."""
    parameters: Mapping[str, Any]
    """What the kind takes, the texts of files included."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one point."""

    index: int
    point: Point
    repeat: int
    seed: int
    id: str
    """The digest of all that the run depends on: kind, parameters, seed, and the version of this package."""


@dataclass(frozen=True)
class Experiment:
    """A checked experiment at one scale."""

    name: str
    kind: Kind
    about: str
    scale: str
    repeats: int
    parameters: Mapping[str, Any]
    """Of all points, as the file says them."""
    sweep: Sweep
    """Every key's values; the names of the variants, if there are any, under ``VARIANT``."""
    points: tuple[Point, ...]
    outline: Outline

    def runs(self, seed: int) -> list[Run]:
        """All runs in order: every point's repeats side by side.

        Variants are compared with the same seeds: what differs between them is not a matter of luck.
        """
        runs: list[Run] = []
        alike = len(self.points) // len(self.sweep.get(VARIANT, [None]))
        for point in self.points:
            for repeat in range(self.repeats):
                own = streams.number(seed, "run", point.index % alike, repeat, bits=SEED_BITS)
                runs.append(Run(len(runs), point, repeat, own, digest(self.kind.name, self._digests[point.index], own)))
        return runs

    @cached_property
    def _digests(self) -> tuple[str, ...]:
        return tuple(digest(point.parameters) for point in self.points)


def package_version() -> str:
    """Of this package; results of different versions are never mixed."""
    try:
        return version("susurrus")
    except PackageNotFoundError:
        return "0"


def digest(*what: object) -> str:
    """Plain data as 32 hexadecimal digits, together with the version of this package."""
    text = json.dumps([package_version(), *what], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load(path: Path) -> dict[str, Any]:
    """The plain data in a TOML file.  ``ConfigurationError`` says what is wrong with it."""
    content = read_bytes(path, "the file", limit=MAX_FILE)
    try:
        return parsed(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{path}: is not UTF-8 text: byte {error.start} is wrong"]) from error
    except ValueError as error:
        raise ConfigurationError([f"{path}: is not valid TOML: {error}"]) from error


def scales(data: Mapping[str, Any]) -> list[str]:
    """The scales that an experiment's data knows."""
    named = data.get("scale")
    return [FULL, *(named if isinstance(named, Mapping) else ())]


def parse(data: Mapping[str, Any], path: Path, scale: str = FULL) -> Experiment:
    """The experiment that the data of the file ``path`` tells, at one of its scales.

    All of its scales are checked.  Raises ``ConfigurationError`` with all mistakes.
    """
    problems: list[str] = []
    document = _Document(data, str(path), problems)
    head = Table(document.get("experiment", {}), document.at("experiment"), problems)
    name, about = outline.text(head, "name"), outline.text(head, "about", "")
    if name and not _NAME.fullmatch(name):
        head.say(f"{head.at('name')} must be of letters, digits, - and _, not {shown(name)}")
    kind_name, repeats = head.word("kind", list(KINDS)), head.whole("repeats", 1, least=1, most=MAX_REPEATS)
    head.close()
    contents = outline.parse(document)
    base = _Shape(_table(document, "parameters"), _variants(document), _sweep(document, "sweep"), repeats)
    shapes = {FULL: base} | _scales(document, base)
    document.close()
    if scale not in shapes:
        problems.append(f"{path}: has no scale {scale!r}; its scales: {', '.join(shapes)}")
    if kind_name is None or problems:
        raise ConfigurationError(problems)
    kind = KINDS[kind_name]
    points = {each: _points(kind, shape, path, problems) for each, shape in shapes.items()}
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))
    shape = shapes[scale]
    return Experiment(name, kind, about, scale, shape.repeats, shape.parameters, shape.axes, points[scale], contents)


class Texts:
    """The texts of the files that parameters name, each read once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._texts: dict[str, str] = {}

    def put_into(self, kind: Kind, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters together with the texts.  ``ConfigurationError`` names all files that cannot be read."""
        if not isinstance(kind, ReadsFiles) or not (names := kind.files(parameters)):
            return parameters
        problems: list[str] = []
        for name in names:
            if name not in self._texts:
                problems += self._read(name)
        if problems:
            raise ConfigurationError(problems)
        return {**parameters, "texts": {name: self._texts[name] for name in names}}

    def _read(self, name: str) -> list[str]:
        path = self._directory / name
        try:
            self._texts[name] = read_bytes(path, "the file", limit=MAX_TRACE).decode("utf-8-sig")
        except ConfigurationError as error:
            return error.problems
        except UnicodeDecodeError as error:
            return [f"{path}: is not UTF-8 text: byte {error.start} is wrong"]
        return []


class _Document(Table):
    """A whole file: its keys stand behind its name."""

    def at(self, key: str) -> str:
        return f"{self.place}: {key}"


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is run at one scale."""

    parameters: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    """What each changes of the parameters, by name; empty: there is but one."""
    sweep: Sweep
    repeats: int

    @property
    def axes(self) -> Sweep:
        """The variants' names, and the sweep."""
        return {VARIANT: list(self.variants), **self.sweep} if self.variants else self.sweep

    @property
    def count(self) -> int:
        """Points."""
        return math.prod(map(len, self.axes.values()))


def _table(document: Table, key: str) -> Mapping[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, Mapping):
        document.say(f"{document.at(key)} must be a table: [{key}]")
        return {}
    for place, inner in _strange(value, document.at(key)):
        document.say(f"{place} is a {type(inner).__name__}; write dates and times as text")
    return value


def _strange(value: object, place: str) -> Iterator[tuple[str, object]]:
    """What no kind can take: TOML's dates and times."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strange(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value, 1):
            yield from _strange(inner, f"{place}[{i}]")
    elif not isinstance(value, bool | int | float | str):
        yield place, value


def _variants(document: Table) -> Mapping[str, Mapping[str, Any]]:
    """Named changes of the parameters, one at a time."""
    named = _table(document, "variants")
    for name, changes in named.items():
        if not isinstance(changes, Mapping):
            document.say(f"{document.at(f'variants.{name}')} must be a table of parameters, not {shown(changes)}")
    return {name: changes for name, changes in named.items() if isinstance(changes, Mapping)}


def _sweep(document: Table, key: str) -> Sweep:
    """Dotted keys and their lists; tables inside (what TOML makes of dots without quotes) are the same."""
    found: dict[str, Sequence[Any]] = {}

    def read(table: Mapping[str, Any], prefix: str) -> None:
        for name, value in table.items():
            if isinstance(value, Mapping):
                read(value, f"{prefix}{name}.")
                continue
            at = f"{document.at(key)}.{prefix}{name}"
            if not isinstance(value, list) or not value:
                document.say(f"{at} must be a list of values, not {shown(value)}")
            elif not all(f"{prefix}{name}".split(".")):
                document.say(f"{at}: a key of the sweep is names with dots between them")
            elif f"{prefix}{name}" in found:
                document.say(f"{at} is there twice")
            else:
                if len({json.dumps(each, sort_keys=True, default=str) for each in value}) < len(value):
                    document.say(f"{at} holds a value twice")
                found[f"{prefix}{name}"] = value

    read(_table(document, key), "")
    if VARIANT in found:
        document.say(f"{document.at(key)}.{VARIANT} is the name of the table of variants")
    for outer, inner in product(found, found):
        if inner.startswith(outer + "."):
            document.say(f"{document.at(key)}.{inner} lies inside {outer}, which the sweep sets too")
    return found


def _scales(document: Table, base: _Shape) -> dict[str, _Shape]:
    shapes = {}
    for name, data in _table(document, "scale").items():
        table = Table(data, document.at(f"scale.{name}"), document.problems)
        if name == FULL:
            table.say(f"{table.place}: {FULL} is what the file says without a scale")
        parameters = _merged(base.parameters, _table(table, "parameters"))
        sweep = {**base.sweep, **_sweep(table, "sweep")}
        repeats = table.whole("repeats", base.repeats, least=1, most=MAX_REPEATS)
        shapes[name] = _Shape(parameters, base.variants, sweep, repeats)
        table.close()
    return shapes


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged


def _points(kind: Kind, shape: _Shape, path: Path, problems: list[str]) -> tuple[Point, ...]:
    """All points of a shape, the first key of the sweep outermost; what their kind finds wrong goes to ``problems``."""
    place, points = f"{path}: parameters", list[Point]()
    if shape.count > MAX_POINTS:
        problems.append(f"{path}: there are {shape.count} points, more than {MAX_POINTS}")
        return ()
    if shape.count * shape.repeats > MAX_RUNS:
        problems.append(f"{path}: {shape.count} points, each {shape.repeats} times, are more than {MAX_RUNS} runs")
        return ()
    texts, told = Texts(path.parent), dict[str, list[Point]]()
    axes = shape.axes
    for index, values in enumerate(product(*axes.values())):
        chosen = dict(zip(axes, values, strict=True))
        try:
            parameters: Mapping[str, Any] = _merged(shape.parameters, shape.variants.get(chosen.get(VARIANT, ""), {}))
            for key in shape.sweep:
                parameters = _with(parameters, key.split("."), chosen[key], place)
            parameters = texts.put_into(kind, parameters)
        except ConfigurationError as error:
            problems += error.problems
            return ()
        point = Point(index, tuple((key, _cell(value)) for key, value in chosen.items()), parameters)
        points.append(point)
        for sentence in kind.check(parameters, place):
            told.setdefault(sentence, []).append(point)
    for sentence, where in told.items():
        # What some points alone get wrong is a matter of their values.
        at = ", ".join(f"{key} = {value}" for key, value in where[0].values) if len(where) < len(points) else ""
        problems.append(f"{sentence} (at {at})" if at else sentence)
    return tuple(points)


def _with(parameters: Mapping[str, Any], path: Sequence[str], value: Any, place: str) -> dict[str, Any]:
    """A copy of the parameters with one value, deep inside, replaced."""
    first, *rest = path
    if not rest:
        return {**parameters, first: value}
    inner = parameters.get(first, {})
    if not isinstance(inner, Mapping):
        raise ConfigurationError([f"{place}.{first} is {shown(inner)}, so the sweep cannot set {'.'.join(rest)} in it"])
    return {**parameters, first: _with(inner, rest, value, f"{place}.{first}")}


def _cell(value: Any) -> Value:
    """A value of the sweep as it stands in a table."""
    if isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, ensure_ascii=False)
