"""A task from a TOML file, or for a data set: defaults, and one sentence for every mistake.

Neighbours: ``protocol.training.task`` defines what a task is and checks its values; ``models`` knows its dimension;
``datasets`` fills in the schema of a packaged data set.
Invariants: either a valid ``Task`` comes back or a ``ConfigurationError`` that lists everything that is wrong.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peer.learning.datasets import DATASETS, Dataset, Schema, schema
from peer.learning.models import make_model
from peer.toml import parsed
from protocol.base.errors import ConfigurationError
from protocol.base.limits import MAX_FEATURES, MAX_TASK
from protocol.base.printing import shown
from protocol.training.task import Scalar, Task

STATISTICS_ROUNDS = 5
"""Statistics rounds of a task that standardises and does not say how many."""

TRAINING: dict[str, int | float] = {
    "learning_rate": 0.5,
    "learning_rate_decay": 0.0,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "batch_per_peer": 32,
    "steps": 300,
    "loss_bound": 10.0,
    "seed": 0,
}
"""Keys of ``[training]`` with their defaults; the default's type is the key's type."""

AGGREGATION: dict[str, int | float] = {
    "collusion_threshold": 3,
    "minimum_cohort": 0,
    "branching": 2,
    "cohort": 1000,
    "modulus_bits": 32,
    "clip": 1.0,
    "walks": 1,
}
"""Keys of ``[aggregation]`` with their defaults; ``minimum_cohort`` 0 means collusion_threshold + 1."""

_TASK_KEYS = ("name", "public_data", "model", "hyper")
_DATA_KEYS = (
    "schema", "features", "target", "classes", "ranges", "target_range", "standardise", "statistics_rounds",
)  # fmt: skip
_SCHEMA_KEYS = ("features", "target", "classes", "ranges", "target_range")

RECIPES: dict[str, dict[str, Any]] = {
    "digits": {"model": "softmax", "learning_rate": 1.0, "statistics_rounds": 0},
    "spambase": {"model": "logistic", "learning_rate": 1.0, "statistics_rounds": STATISTICS_ROUNDS},
    "pendigits": {
        "model": "mlp",
        "hyper": (("hidden", 48),),
        "learning_rate": 1.0,
        "statistics_rounds": STATISTICS_ROUNDS,
    },
}
"""What ``task_for_dataset`` uses for the packaged data sets."""
FOR_CLASSES: dict[str, Any] = {"model": "softmax", "statistics_rounds": STATISTICS_ROUNDS}
FOR_REGRESSION: dict[str, Any] = {
    "model": "linear",
    "learning_rate": 0.1,
    "learning_rate_decay": 0.01,
    "statistics_rounds": STATISTICS_ROUNDS,
}
"""What it uses for any other data."""


def load_task(path: str | Path, own_models: Mapping[str, str] | None = None) -> Task:
    """The task that a TOML file describes.

    ``own_models``: this peer's own model classes, name -> "module:Class".  Raises ``ConfigurationError`` with sentences
    of the form ``FILE: key: what is wrong, what would be right``, all mistakes at once.
    """
    name = str(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_TASK + 1)
    except OSError as error:
        raise ConfigurationError([f"{name}: cannot be read ({error.strerror})"]) from error
    if len(content) > MAX_TASK:
        raise ConfigurationError([f"{name}: the file is longer than {MAX_TASK} bytes, a task file is short"])
    try:
        raw = parsed(content.decode("utf-8-sig"))  # some editors begin with a mark
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{name}: is not UTF-8 text, a task file is TOML"]) from error
    except ValueError as error:
        raise ConfigurationError([f"{name}: is not valid TOML ({error})"]) from error
    reader = _Reader()
    task = reader.task(raw, own_models)
    if reader.problems:
        raise ConfigurationError([f"{name}: {problem}" for problem in reader.problems])
    return task


def task_for_dataset(
    data: str | Dataset | Schema,
    *,
    collusion_threshold: int = 3,
    branching: int = 2,
    cohort: int = 1000,
    modulus_bits: int = 32,
    steps: int = 300,
    walks: int = 1,
    minimum_cohort: int | None = None,
    public_data: bool = True,
    initial_seed: int = 0,
    **overrides: Any,
) -> Task:
    """A task with hyper-parameters that suit the data: a packaged data set's name, or any schema.

    ``overrides``: other fields of ``Task`` (``model``, ``hyper``, ``learning_rate``, ``batch_per_peer``, ...).  Raises
    ``ConfigurationError`` with all impossible values at once.
    """
    known = schema(data) if isinstance(data, str) else data
    recipe = FOR_CLASSES if known.classes else FOR_REGRESSION
    if known.name in DATASETS and known.features == schema(known.name).features:
        recipe = RECIPES[known.name]
    defaults = {key: value for key, value in TRAINING.items() if key not in ("seed", "steps")}
    settings: dict[str, Any] = {"hyper": (), "clip": 1.0, **defaults, **recipe, **overrides}
    settings["hyper"] = tuple(sorted(settings["hyper"]))
    problems: list[str] = []
    dimension = _dimension(
        settings["model"], len(known.features), len(known.classes), dict(settings["hyper"]), None, problems
    )
    task = Task(
        name=known.name,
        public_data=public_data,
        schema=known.name,
        features=known.features,
        target=known.target,
        classes=known.classes,
        ranges=known.ranges,
        target_range=known.target_range,
        dimension=dimension,
        steps=steps,
        collusion_threshold=collusion_threshold,
        minimum_cohort=collusion_threshold + 1 if minimum_cohort is None else minimum_cohort,
        branching=branching,
        cohort=cohort,
        modulus_bits=modulus_bits,
        walks=walks,
        initial_seed=initial_seed,
        **settings,
    )
    problems += validation_problems(task)
    if problems:
        raise ConfigurationError(problems)
    return task


def validation_problems(task: Task) -> list[str]:
    """What ``Task.validate`` finds wrong, as ``key: what is wrong`` sentences."""
    problems = []
    try:
        task.validate()
    except ConfigurationError as error:
        for sentence in error.problems:
            key, _, rest = sentence.partition(" ")
            problems.append(f"{key}: {rest}" if "." in key else sentence)
    if not problems and len(task.encode()) > MAX_TASK:
        problems.append(f"data.features: names and ranges take more than {MAX_TASK} bytes, shorten the names")
    return problems


def _dimension(
    model: str,
    features: int,
    classes: int,
    hyper: Mapping[str, Scalar],
    own: Mapping[str, str] | None,
    problems: list[str],
) -> int:
    """The model's dimension; or 1, and what is wrong added to ``problems``."""
    try:
        return make_model(model, features, classes, hyper, own).dimension
    except ConfigurationError as error:
        problems += error.problems
        return 1


class _Reader:
    """Reads one parsed TOML document; mistakes gather in ``problems`` and their values are replaced by harmless
    ones.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def _tables(self, raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The four tables, each with the keys that are known."""
        known = {"task": _TASK_KEYS, "data": _DATA_KEYS, "training": TRAINING, "aggregation": AGGREGATION}
        tables: dict[str, dict[str, Any]] = {}
        for key in raw:
            if key not in known:
                self._say(key, f"there is no such table, known are {', '.join(known)}")
        for table, keys in known.items():
            content = raw.get(table, {})
            if not isinstance(content, dict):
                self._say(table, f"must be a table, not {shown(content)}")
                content = {}
            for key in content:
                if key not in keys:
                    self._say(f"{table}.{key}", f"there is no such key, known are {', '.join(keys)}")
            tables[table] = {key: value for key, value in content.items() if key in keys}
        return tables

    def task(self, raw: dict[str, Any], own_models: Mapping[str, str] | None) -> Task:
        """The task; only to be used if ``problems`` stays empty."""
        tables = self._tables(raw)
        task, training = tables["task"], self._numbers("training", tables["training"], TRAINING)
        aggregation = self._numbers("aggregation", tables["aggregation"], AGGREGATION)
        described = self._schema(tables["data"])
        model = self._text("task.model", task.get("model", "softmax"), "softmax")
        hyper = self._hyper(task.get("hyper", {}))
        before = len(self.problems)
        dimension = 1
        if described is not None:
            dimension = _dimension(
                model, len(described.features), len(described.classes), hyper, own_models, self.problems
            )
        model_failed = len(self.problems) > before
        if not 0 <= training["seed"] < 2**63:
            self._say("training.seed", "must be a whole number from 0 to 2**63 - 1")
            training["seed"] = 0
        rest = described or Schema("?", ("?",), "?", (), ((0.0, 1.0),), (0.0, 1.0))
        built = Task(
            name=self._text("task.name", task.get("name", rest.name), "?"),
            public_data=self._flag("task.public_data", task.get("public_data", False)),
            model=model,
            hyper=tuple(sorted(hyper.items())),
            schema=rest.name,
            features=rest.features,
            target=rest.target,
            classes=rest.classes,
            ranges=rest.ranges,
            target_range=rest.target_range,
            statistics_rounds=self._statistics_rounds(tables["data"]),
            dimension=dimension,
            minimum_cohort=int(aggregation.pop("minimum_cohort") or aggregation["collusion_threshold"] + 1),
            initial_seed=int(training.pop("seed")),
            **aggregation,
            **training,
        )
        found = validation_problems(built)
        self.problems += [p for p in found if not (model_failed and p.startswith("the model"))]
        return built

    def _say(self, key: str, problem: str) -> None:
        self.problems.append(f"{key}: {problem}")

    def _numbers(self, table: str, given: dict[str, Any], defaults: dict[str, int | float]) -> dict[str, Any]:
        values: dict[str, Any] = dict(defaults)
        for key, value in given.items():
            whole = isinstance(defaults[key], int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                self._say(f"{table}.{key}", f"must be a {'whole number' if whole else 'number'}, not {shown(value)}")
            elif not whole and not _is_number(value):
                self._say(f"{table}.{key}", f"must be a finite number, not {shown(value)}")
            elif key == "minimum_cohort" and value < 1:
                self._say(f"{table}.{key}", f"must be at least collusion_threshold + 1, not {value}")
            else:
                values[key] = value if whole else float(value)
        return values

    def _text(self, key: str, value: Any, default: str) -> str:
        if isinstance(value, str) and value:
            return value
        self._say(key, f"must be text, not {shown(value)}")
        return default

    def _flag(self, key: str, value: Any) -> bool:
        if not isinstance(value, bool):
            self._say(key, f"must be true or false, not {shown(value)}")
            return False
        return value

    def _hyper(self, value: Any) -> dict[str, Scalar]:
        if not isinstance(value, dict):
            self._say("task.hyper", "must be a table of the model's own parameters, such as { hidden = 64 }")
            return {}
        kept: dict[str, Scalar] = {}
        for key, content in value.items():
            if isinstance(content, str) or (isinstance(content, int | float) and abs(content) < 2**63):
                kept[key] = content
            else:
                self._say(f"task.hyper.{key}", f"must be a number, text, true or false, not {shown(content)}")
        return kept

    def _statistics_rounds(self, data: dict[str, Any]) -> int:
        standardise = self._flag("data.standardise", data.get("standardise", data.get("statistics_rounds", 0) != 0))
        rounds = data.get("statistics_rounds", STATISTICS_ROUNDS if standardise else 0)
        if not isinstance(rounds, int) or isinstance(rounds, bool):
            self._say("data.statistics_rounds", f"must be a whole number, not {shown(rounds)}")
            return 0
        if standardise != (rounds != 0):
            right = "true, so it must be at least 1" if standardise else "false, so it must be 0"
            self._say("data.statistics_rounds", f"is {rounds} but standardise is {right}, or left out")
        return rounds

    def _schema(self, data: dict[str, Any]) -> Schema | None:
        if "schema" not in data:
            self._say("data.schema", "is missing, give the name of a packaged data set or a name of your own")
            return None
        name = self._text("data.schema", data["schema"], "")
        if not name:
            return None
        if name in DATASETS:
            for key in _SCHEMA_KEYS:
                if key in data:
                    self._say(f"data.{key}", f"comes with schema '{name}', remove it or name a schema of your own")
            return schema(name)
        before = len(self.problems)
        features = self._features(data.get("features"))
        target = self._text("data.target", data.get("target", "target"), "target")
        classes = self._classes(data.get("classes", []))
        ranges = self._ranges(data.get("ranges"), len(features))
        target_range = (0.0, 0.0)
        if "target_range" in data:
            target_range = self._pair("data.target_range", data["target_range"])
            if classes:
                self._say("data.target_range", "is for regression, remove it or remove classes")
        if target in features:
            self._say("data.target", f"'{target}' is also a feature, a model must not see what it predicts")
        if len(self.problems) > before:
            return None
        return Schema(name, features, target, classes, ranges, target_range)

    def _features(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_FEATURES:
            return tuple(f"f{i}" for i in range(1, value + 1))
        if isinstance(value, list) and value and all(isinstance(v, str) and v for v in value):
            if len(set(value)) < len(value):
                self._say("data.features", f"'{next(v for v in value if value.count(v) > 1)}' is named twice")
            return tuple(value)
        wrong = "is missing" if value is None else f"{shown(value)} will not do"
        self._say("data.features", f"{wrong}, give a list of names or their number (1 to 100000)")
        return ()

    def _classes(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(v, str | int) and not isinstance(v, bool) for v in value):
            labels = tuple(str(v) for v in value)
            if len(labels) != 1 and len(set(labels)) == len(labels):
                return labels
        self._say("data.classes", "must be a list of at least two different labels, or left out for regression")
        return ()

    def _ranges(self, value: Any, count: int) -> tuple[tuple[float, float], ...]:
        if value is None:
            self._say("data.ranges", "is missing, give one [low, high] for all features or a list with one for each")
        elif isinstance(value, list) and len(value) == 2 and not any(isinstance(v, list) for v in value):
            return (self._pair("data.ranges", value),) * count
        elif isinstance(value, list) and (len(value) == count or not count):
            return tuple(self._pair(f"data.ranges[{i}]", pair) for i, pair in enumerate(value))
        else:
            self._say("data.ranges", f"must be one [low, high], or a list with one for each of the {count} features")
        return ()

    def _pair(self, key: str, value: Any) -> tuple[float, float]:
        if isinstance(value, list) and len(value) == 2 and all(_is_number(v) for v in value) and value[0] < value[1]:
            return float(value[0]), float(value[1])
        self._say(key, f"must be [low, high], two finite numbers with low below high, not {shown(value)}")
        return (0.0, 1.0)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
