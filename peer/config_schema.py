"""What a peer's configuration may hold: every section and key, what is right for it.

Neighbours: ``config`` reads files, the environment and flags by this table; ``commands.init`` writes a file by it.
Invariants: data only; a check takes a value as TOML gives it and returns the value to use, or raises ``ValueError``
whose text completes the sentence "KEY must be ...".
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from peer.transport.addresses import parse_address
from protocol.base.errors import ConfigurationError
from protocol.base.ids import ID_BYTES
from protocol.base.limits import MAX_ADDRESSES, MAX_COHORT, MAX_COLLUSION_THRESHOLD, MAX_FEATURES
from protocol.base.printing import shown
from protocol.base.settings import PRESETS, Settings

Check = Callable[[Any], Any]

BUILT_IN_MODELS = ("linear", "logistic", "softmax", "svm", "mlp")
DATA_FORMATS = ("auto", "csv", "npz", "libsvm")
KEMS = ("x25519", "hybrid")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("plain", "json")
SENSORS = ("auto", "termux", "linux", "none")
ANYBODY = "any"
DEFAULT_LISTEN = "0.0.0.0:7390"
DEFAULT_ADMIN = "127.0.0.1:0"
DEFAULT_POLL_S = 60.0
MAX_SEEDS = 64

_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_HOURS = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*-\s*(\d{1,2})(?::(\d{2}))?", re.ASCII)
_SCHEMA = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its check, and the kind of TOML value that an environment variable's text stands for."""

    check: Check
    kind: type


def show(value: object) -> str:
    """``value`` as an error quotes it: short, and as TOML would write it."""
    return str(value).lower() if isinstance(value, bool) else shown(value)


def text(value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"a text in quotes, not {show(value)}")
    return value


def choice(*options: str) -> Check:
    """One of ``options``."""

    def check(value: Any) -> str:
        if value not in options or not isinstance(value, str):
            raise ValueError(f"one of {', '.join(options)}, not {show(value)}")
        return value

    return check


def integer(low: int, high: int) -> Check:
    """A whole number from ``low`` to ``high``."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}, not {show(value)}")
        return value

    return check


def number(*, zero: bool) -> Check:
    """A finite number above zero, or from zero on."""

    def check(value: Any) -> float:
        good = type(value) in (int, float) and 0 <= value <= sys.float_info.max and (zero or value > 0)
        if not good:
            raise ValueError(f"a number {'from 0 on' if zero else 'above 0'}, not {show(value)}")
        return float(value)

    return check


def yes_or_no(value: Any) -> bool:
    """A truth value."""
    if type(value) is not bool:
        raise ValueError(f"true or false, not {show(value)}")
    return value


def within(low: float, high: float) -> Check:
    """A number from ``low`` to ``high``."""

    def check(value: Any) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}, not {show(value)}")
        return float(value)

    return check


def parse_hours(value: str) -> tuple[int, int] | None:
    """``"22-06"`` or ``"22:30-06:15"`` as (first minute of the day, minute after the last); ``""``: None, any time.

    Raises ``ValueError`` for anything else.
    """
    if not value.strip():
        return None
    found = _HOURS.fullmatch(value.strip())
    if found is None:
        raise ValueError
    start, end = (60 * int(found[i]) + int(found[i + 1] or 0) for i in (1, 3))
    if any(int(found[i] or 0) > 59 for i in (2, 4)) or start >= 24 * 60 or end > 24 * 60 or start == end:
        raise ValueError
    return start, end


def hours(value: Any) -> str:
    """Hours of the local day."""
    try:
        if not isinstance(value, str):
            raise ValueError
        parse_hours(value)
    except ValueError:
        raise ValueError(f'hours of the day such as "22-06" or "22:30-06:15", not {show(value)}') from None
    return value.strip()


def text_list(each: Check, most: int) -> Check:
    """A list of at most ``most`` different texts, each good for ``each``."""

    def check(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f'a list such as ["a", "b"], not {show(value)}')
        if len(value) > most:
            raise ValueError(f"a list of at most {most}, not {len(value)}")
        good = tuple(each(item) for item in value)
        if len(set(good)) != len(good):
            raise ValueError("a list without repetitions")
        return good

    return check


def address(*, listening: bool = False) -> Check:
    """``host:port``, as ``peer.transport.addresses`` reads it."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"an address host:port in quotes, not {show(value)}")
        try:
            parse_address(value, listening=listening)
        except ConfigurationError as error:
            raise ValueError(f"host:port; {error}") from None
        return value.strip()

    return check


def admin_address(value: Any) -> str:
    """Where the admin endpoint listens: this machine's loopback, or every interface."""
    given = str(address(listening=True)(value))
    if parse_address(given, listening=True)[0] not in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::"):  # noqa: S104
        raise ValueError(f"127.0.0.1:PORT, or 0.0.0.0:PORT for every interface, not {show(value)}")
    return given


def advertised(value: Any) -> str:
    """``host:port`` as others are told it; port 0 stands for the port that is listened on."""
    given = address(listening=True)(value)
    if parse_address(given, listening=True)[0] in ("0.0.0.0", "::"):  # noqa: S104 (compared with, never bound to)
        raise ValueError(f"an address that others can use, not {show(value)}")
    return str(given)


def submitters(value: Any) -> tuple[str, ...]:
    """``["any"]`` or a list of peer ids."""

    right = f'["any"] or a list of peer ids ({2 * ID_BYTES} hexadecimal digits each)'

    def peer(item: Any) -> str:
        if isinstance(item, str) and re.fullmatch(f"[0-9a-fA-F]{{{2 * ID_BYTES}}}", item):
            return item.lower()
        raise ValueError(f"{right}, not {show(item)}")

    if value in ([ANYBODY], (ANYBODY,)):
        return (ANYBODY,)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{right}, not {show(value)}")
    return tuple(text_list(peer, 10_000)(value))


def class_name(value: Any) -> str:
    """``module:Class``."""
    if not isinstance(value, str) or not _CLASS.fullmatch(value):
        raise ValueError(f"a class as module:Class, not {show(value)}")
    return value


def schema_name(value: str) -> str:
    """The name of a data schema."""
    if not _SCHEMA.fullmatch(value):
        raise ValueError("letters, digits, dots, dashes and underscores")
    return value


SECTIONS: Mapping[str, Mapping[str, Key]] = {
    "peer": {
        "listen": Key(address(listening=True), str),
        "advertise": Key(text_list(advertised, MAX_ADDRESSES), list),
        "seeds": Key(text_list(address(), MAX_SEEDS), list),
        "preset": Key(choice(*PRESETS), str),
        "kem": Key(choice(*KEMS), str),
    },
    "limits": {
        "collusion_threshold": Key(integer(2, MAX_COLLUSION_THRESHOLD), int),
        "minimum_cohort": Key(integer(3, MAX_COHORT), int),
        "submitters": Key(submitters, list),
        "rounds_per_hour": Key(integer(0, 10_000_000), int),
    },
    "admin": {
        "listen": Key(admin_address, str),
    },
    "power": {
        "charging": Key(yes_or_no, bool),
        "battery_above": Key(within(0, 99), float),
        "unmetered": Key(yes_or_no, bool),
        "hours": Key(hours, str),
        "temperature_below": Key(within(0, 100), float),
        "poll_s": Key(within(1, 3600), float),
        "sensor": Key(choice(*SENSORS), str),
    },
    "log": {
        "level": Key(choice(*LOG_LEVELS), str),
        "format": Key(choice(*LOG_FORMATS), str),
    },
    "timing": {
        field.name: Key(
            integer(1, 1_000_000) if field.type is int else number(zero=field.name == "root_pause_s"),
            int if field.type is int else float,
        )
        for field in fields(Settings)
    },
}
"""Sections with fixed keys."""

DATA_KEYS: Mapping[str, Key] = {
    "path": Key(text, str),
    "format": Key(choice(*DATA_FORMATS), str),
    "target": Key(text, str),
    "features": Key(text_list(text, MAX_FEATURES), list),
    "classes": Key(text_list(text, MAX_FEATURES), list),
}
"""Keys of every ``[data.SCHEMA]``."""

FREE_SECTIONS = ("data", "models")
"""Sections whose keys the user names."""


def variable(section: str, key: str) -> str:
    """The environment variable of a key: ``SUSURRUS_SEEDS`` in ``[peer]``, ``SUSURRUS_LOG_LEVEL`` elsewhere."""
    return f"SUSURRUS_{key}".upper() if section == "peer" else f"SUSURRUS_{section}_{key}".upper()


VARIABLES: Mapping[str, tuple[str, str]] = {
    variable(section, key): (section, key) for section, keys in SECTIONS.items() for key in keys
}
OTHER_VARIABLES = ("SUSURRUS_HOME", "SUSURRUS_DEBUG", "SUSURRUS_TOKEN", "SUSURRUS_TOKEN_FILE", "SUSURRUS_LIFELINE")
"""Read by commands, not part of the configuration."""
