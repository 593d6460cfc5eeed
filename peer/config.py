"""A peer's configuration: ``config.toml`` of its home, then ``SUSURRUS_*`` variables, then flags; later ones win.

Neighbours: ``config_schema`` says what is right, ``commands.run`` loads it, ``daemon`` and all that it composes read
it.
Invariants: frozen once loaded; every mistake of all three sources is reported in one ``ConfigurationError``, each
with where it stands, its key and what would be right; nothing is read at import.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peer.config_schema import (
    ANYBODY,
    BUILT_IN_MODELS,
    DATA_KEYS,
    DEFAULT_ADMIN,
    DEFAULT_LISTEN,
    DEFAULT_POLL_S,
    FREE_SECTIONS,
    OTHER_VARIABLES,
    SECTIONS,
    VARIABLES,
    Check,
    class_name,
    parse_hours,
    schema_name,
    variable,
)
from peer.files import why
from peer.home import CONFIG
from peer.toml import parsed
from peer.transport.addresses import parse_address
from protocol.base.errors import ConfigurationError
from protocol.base.settings import PRESETS, Settings

__all__ = [
    "ANYBODY",
    "Config",
    "DataBinding",
    "Limits",
    "LogConfig",
    "Power",
    "check_flags",
    "load_config",
    "parse_config",
]

_DATA_VARIABLE = re.compile(rf"SUSURRUS_DATA_([A-Z0-9_]+)_({'|'.join(DATA_KEYS).upper()})")
_ORCHESTRATOR_VARIABLE = re.compile(
    r"SUSURRUS_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?|NAME)"
)
"""What Kubernetes and container links put into the environment for a service called ``susurrus``: not ours to judge."""

_FLAGS = {"peer.seeds": "seed", "log.level": "log-level", "log.format": "log-format"}
"""Flags that are not called as their keys are."""


@dataclass(frozen=True, slots=True)
class DataBinding:
    """Where the records of one schema are."""

    schema: str
    path: Path
    """Absolute."""
    format: str = "auto"
    """``auto`` (by the file's name), ``csv``, ``npz`` or ``libsvm``."""
    target: str | None = None
    """Name of the target column; ``None``: what the task calls it."""
    features: tuple[str, ...] = ()
    """This file's names of the schema's features, in the schema's order; empty: the same names."""
    classes: tuple[str, ...] = ()
    """The only labels that tasks may ask for; empty: those of the first task."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What this peer's user agrees to."""

    collusion_threshold: int = 2
    """Tasks with a smaller S are declined."""
    minimum_cohort: int = 3
    """Tasks with a smaller K are declined."""
    submitters: tuple[str, ...] = (ANYBODY,)
    """``("any",)`` or the peer ids (hexadecimal) whose tasks are accepted."""
    rounds_per_hour: int = 0
    """Contributions per hour; 0: as many as come."""


@dataclass(frozen=True, slots=True)
class Power:
    """When this peer may take part (``peer.power``); everything off: always."""

    charging: bool = False
    """Only on a charger; together with ``battery_above``: or above so many percent."""
    battery_above: float = 0.0
    """Percent; 0: off."""
    unmetered: bool = False
    """Only on Wi-Fi."""
    hours: str = ""
    """Local time, such as ``22-06``; empty: any."""
    temperature_below: float = 0.0
    """Degrees Celsius of the battery; 0: off."""
    poll_s: float = DEFAULT_POLL_S
    """Seconds between two looks at the sensors."""
    sensor: str = "auto"

    @property
    def window(self) -> tuple[int, int] | None:
        """``hours`` in minutes of the day."""
        return parse_hours(self.hours)

    @property
    def asks_power(self) -> bool:
        """Whether the battery must be asked."""
        return self.charging or self.battery_above > 0 or self.temperature_below > 0

    @property
    def restricted(self) -> bool:
        """Whether anything is asked for at all."""
        return self.asks_power or self.unmetered or self.window is not None


@dataclass(frozen=True, slots=True)
class LogConfig:
    """How much to log, and as what."""

    level: str = "info"
    format: str = "plain"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a peer's user can choose.  Made by ``load_config``."""

    home: Path
    listen: str = DEFAULT_LISTEN
    """``host:port``; port 0: the system chooses one."""
    advertise: tuple[str, ...] = ()
    """Addresses that others are told; empty: this machine's own, with the port in use."""
    seeds: tuple[str, ...] = ()
    preset: str = "lan"
    kem: str = "x25519"
    data: Mapping[str, DataBinding] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    """Task's model name -> ``module:Class`` of this machine."""
    limits: Limits = field(default_factory=Limits)
    power: Power = field(default_factory=Power)
    log: LogConfig = field(default_factory=LogConfig)
    admin_listen: str = DEFAULT_ADMIN
    """``host:port`` of the admin endpoint; port 0: the system chooses one."""
    settings: Settings = PRESETS["lan"]

    @property
    def listen_address(self) -> tuple[str, int]:
        """Host and port to bind."""
        return parse_address(self.listen, listening=True)

    @property
    def admin_address(self) -> tuple[str, int]:
        """Host and port of the admin endpoint to bind."""
        return parse_address(self.admin_listen, listening=True)


def load_config(home: Path, environment: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Config:
    """The configuration of the peer in ``home``.

    ``flags`` maps ``section.key`` (for example ``peer.listen``) to values; ``None`` and empty ones count as not given.
    Raises ``ConfigurationError`` with every mistake there is.
    """
    reader = _Reader(home)
    reader.read_file(home / CONFIG)
    reader.read_environment(environment)
    reader.read_flags(flags or {})
    return reader.finish()


def parse_config(home: Path, text: str) -> Config:
    """The configuration that ``text`` as ``config.toml`` of ``home`` would give; errors as ``load_config``."""
    reader = _Reader(home)
    reader.read_text(home / CONFIG, text)
    return reader.finish()


def check_flags(flags: Mapping[str, Any]) -> None:
    """Raise ``ConfigurationError`` with every mistake in ``flags`` (as ``load_config`` takes them)."""
    reader = _Reader(Path())
    reader.read_flags(flags)
    reader.finish()


class _Reader:
    """Gathers checked values from the three sources, and every mistake on the way."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.problems: list[str] = []
        self.values: dict[tuple[str, str], Any] = {}
        self.data: dict[str, dict[str, Any]] = {}
        self.models: dict[str, str] = {}
        self.lines: dict[tuple[str, ...], int] = {}

    # --- sources --------------------------------------------------------------------------------------------

    def read_file(self, file: Path) -> None:
        try:
            self.read_text(file, file.read_text(encoding="utf-8-sig"))  # some editors begin with a mark
        except OSError as error:
            self.problems.append(f"cannot read {file}: {why(error)}")
        except UnicodeDecodeError:
            self.problems.append(f"{file}: is not UTF-8 text")

    def read_text(self, file: Path, source: str) -> None:
        try:
            document = parsed(source)
        except ValueError as error:
            self.problems.append(f"{file}: is not valid TOML: {error}")
            return
        self.lines = _lines_of_keys(source)
        for section, table in document.items():
            at = self._at(file, section)
            if section not in SECTIONS and section not in FREE_SECTIONS:
                self.problems.append(f"{at}: there is no section or key {section!r}{_advice(section, _all_names())}")
            elif not isinstance(table, dict):
                self.problems.append(f"{at}: {section} must be a section: [{section}]")
            elif section == "data":
                self._read_data(file, table)
            elif section == "models":
                self._read_models(file, table)
            else:
                self._read_section(file, section, table)

    def read_environment(self, environment: Mapping[str, str]) -> None:
        for name in sorted(environment):
            if not name.startswith("SUSURRUS_") or name in OTHER_VARIABLES or _ORCHESTRATOR_VARIABLE.fullmatch(name):
                continue
            if name in VARIABLES:
                section, key = VARIABLES[name]
                if environment[name] != "":
                    self._set(name, section, key, _from_text(environment[name], SECTIONS[section][key].kind))
            elif match := _DATA_VARIABLE.fullmatch(name):
                key = match[2].lower()
                raw = _from_text(environment[name], DATA_KEYS[key].kind)
                if environment[name] != "":
                    self._set_data(name, self._schema_of_variable(match[1]), key, raw, Path.cwd())
            else:
                known = [*VARIABLES, *OTHER_VARIABLES, "SUSURRUS_DATA_SCHEMA_PATH"]
                self.problems.append(f"{name}: there is no such variable{_advice(name, known)}")

    def read_flags(self, flags: Mapping[str, Any]) -> None:
        for dotted, raw in flags.items():
            if raw is None or raw in ([], ()):
                continue
            section, _, key = dotted.partition(".")
            self._set(f"--{_FLAGS.get(dotted, key)}", section, key, raw)

    # --- sections -------------------------------------------------------------------------------------------

    def _read_section(self, file: Path, section: str, table: Mapping[str, Any]) -> None:
        for key, raw in table.items():
            at = self._at(file, section, key)
            if key in SECTIONS[section]:
                self._set(at, section, key, raw)
            else:
                names = [f"{section}.{name}" for name in SECTIONS[section]]
                self.problems.append(f"{at}: there is no key {section}.{key}{_advice(f'{section}.{key}', names)}")

    def _read_data(self, file: Path, table: Mapping[str, Any]) -> None:
        for schema, keys in table.items():
            at = self._at(file, "data", schema)
            try:
                schema_name(schema)
            except ValueError as error:
                self.problems.append(f"{at}: the schema name {schema!r} must be made of {error}")
            if not isinstance(keys, dict):
                self.problems.append(f'{at}: data.{schema} must be a section: [data.{schema}] with path = "FILE"')
                continue
            self.data.setdefault(schema, {})
            for key, raw in keys.items():
                at = self._at(file, "data", schema, key)
                if key in DATA_KEYS:
                    self._set_data(at, schema, key, raw, self.home)
                else:
                    names = [f"data.{schema}.{name}" for name in DATA_KEYS]
                    dotted = f"data.{schema}.{key}"
                    self.problems.append(f"{at}: there is no key {dotted}{_advice(dotted, names)}")
            if "path" not in keys:
                at = self._at(file, "data", schema)
                self.problems.append(f'{at}: data.{schema} has no path; say which file: path = "FILE"')

    def _read_models(self, file: Path, table: Mapping[str, Any]) -> None:
        for name, raw in table.items():
            at = self._at(file, "models", name)
            if name in BUILT_IN_MODELS:
                self.problems.append(f"{at}: models.{name} is built in; choose another name for a class of your own")
            else:
                self._check(at, f"models.{name}", class_name, raw, self.models, name)

    # --- values ---------------------------------------------------------------------------------------------

    def _set(self, at: str, section: str, key: str, raw: Any) -> None:
        self._check(at, f"{section}.{key}", SECTIONS[section][key].check, raw, self.values, (section, key))

    def _set_data(self, at: str, schema: str, key: str, raw: Any, base: Path) -> None:
        into = self.data.setdefault(schema, {})
        self._check(at, f"data.{schema}.{key}", DATA_KEYS[key].check, raw, into, key)
        if key == "path" and isinstance(into.get("path"), str):
            into["path"] = base / Path(into["path"]).expanduser()

    def _check(self, at: str, dotted: str, check: Check, raw: Any, into: dict[Any, Any], name: Any) -> None:
        try:
            into[name] = check(raw)
        except ValueError as error:
            self.problems.append(f"{at}: {dotted} must be {error}")

    def _schema_of_variable(self, upper: str) -> str:
        for schema in self.data:
            if re.sub(r"[^A-Z0-9]", "_", schema.upper()) == upper:
                return schema
        return upper.lower()

    def _at(self, file: Path, *path: str) -> str:
        line = self.lines.get(path)
        return f"{file}:{line}" if line else str(file)

    # --- result ---------------------------------------------------------------------------------------------

    def finish(self) -> Config:
        for schema, keys in self.data.items():
            if "path" not in keys and not self.problems:
                self.problems.append(f"{variable('data', schema + '_path')}: say where the records of {schema!r} are")
        if self.problems:
            raise ConfigurationError(list(dict.fromkeys(self.problems)))

        def section(name: str) -> dict[str, Any]:
            return {key: value for (where, key), value in self.values.items() if where == name}

        own = section("peer")
        return Config(
            home=self.home,
            **own,
            data={schema: DataBinding(schema=schema, **keys) for schema, keys in self.data.items()},
            models=dict(self.models),
            limits=Limits(**section("limits")),
            power=Power(**section("power")),
            log=LogConfig(**section("log")),
            admin_listen=section("admin").get("listen", DEFAULT_ADMIN),
            settings=replace(PRESETS[own.get("preset", "lan")], **section("timing")),
        )


def _all_names() -> list[str]:
    return [*SECTIONS, *FREE_SECTIONS, *(f"{section}.{key}" for section, keys in SECTIONS.items() for key in keys)]


def _advice(wrong: str, names: list[str]) -> str:
    """What was probably meant; all that is known when nothing is near and the list is short."""
    by_last = {name.rpartition(".")[2]: name for name in reversed(names)}
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.75)
    if not near:
        near = [by_last[name] for name in difflib.get_close_matches(wrong.rpartition(".")[2], by_last, n=1, cutoff=0.7)]
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known are {', '.join(names)}" if len(names) <= 10 else ""


def _from_text(raw: str, kind: type) -> Any:
    """An environment variable's text as the TOML value that it stands for; left as it is where it stands for none."""
    if kind is list:
        return [item.strip() for item in raw.split(",") if item.strip()]
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(raw.strip().lower(), raw)
    if kind in (int, float):
        for number in (int, float):
            try:
                return number(raw)
            except ValueError:
                continue
    return raw


_HEADER = re.compile(r"\s*\[\[?\s*([^\]#]+?)\s*\]\]?\s*(#.*)?")
_ASSIGNMENT = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)


def _lines_of_keys(source: str) -> dict[tuple[str, ...], int]:
    """Where each section and key of a TOML text stands, for messages (the standard parser does not say)."""
    lines: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    for number, line in enumerate(source.splitlines(), start=1):
        if header := _HEADER.fullmatch(line):
            section = _dotted(header[1])
            path = section
        elif assignment := _ASSIGNMENT.match(line):
            path = section + _dotted(assignment[1])
        else:
            continue
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], number)
    return lines


def _dotted(name: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""", name))
