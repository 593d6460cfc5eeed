"""Reading plain data, as a TOML file gives it: one table at a time, every mistake a sentence with its place.

Neighbours: the parsers of ``distributions``, ``network``, ``churn`` and ``faults``.
Invariants: nothing is raised before all was read; a value handed out after a mistake is a stand-in that its caller must
not use (``ok`` tells).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from protocol.base.printing import shown

_REQUIRED = object()
LARGEST = 1e15
"""Of any number, in any unit: more than is meant."""


class Table:
    """One table that is being read: ``place`` names it in sentences, mistakes are appended to ``problems``.

    Every key asked for is known; ``close`` reports all others.
    """

    def __init__(self, data: object, place: str, problems: list[str]) -> None:
        self.place = place
        self.problems = problems
        self._before = len(problems)
        self._known: list[str] = []
        self._data: Mapping[str, Any] = {}
        if isinstance(data, Mapping):
            self._data = data
        else:
            self.say(f"{place} must be a table of keys and values, not {shown(data)}")

    @property
    def ok(self) -> bool:
        """Whether no mistake was found since this table was opened."""
        return len(self.problems) == self._before

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def say(self, sentence: str) -> None:
        """Add a sentence about a mistake."""
        self.problems.append(sentence)

    def at(self, key: str) -> str:
        """The place of a key of this table."""
        return f"{self.place}.{key}"

    def get(self, key: str, default: object = None) -> Any:
        """The value as it stands; the key is known from now on."""
        if key not in self._known:
            self._known.append(key)
        return self._data.get(key, default)

    def number(
        self,
        key: str,
        default: object = _REQUIRED,
        *,
        least: float = 0.0,
        above: float = -math.inf,
        most: float = LARGEST,
    ) -> float:
        """A number from ``least`` (and more than ``above``) to ``most``."""
        value = self.get(key, default)
        if value is _REQUIRED:
            self.say(f"{self.place} needs {key}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
            self.say(f"{self.at(key)} must be a number, not {shown(value)}")
        elif not (least <= value <= most and value > above):
            self.say(f"{self.at(key)} must be {_range(least, above, most)}, not {shown(value)}")
        else:
            return float(value)
        return 1.0

    def whole(self, key: str, default: object = _REQUIRED, *, least: int = 0, most: int = 2**62) -> int:
        """A whole number from ``least`` to ``most``."""
        value = self.get(key, default)
        if value is _REQUIRED:
            self.say(f"{self.place} needs {key}")
        elif isinstance(value, bool) or not isinstance(value, int):
            self.say(f"{self.at(key)} must be a whole number, not {shown(value)}")
        elif not least <= value <= most:
            self.say(f"{self.at(key)} must be {_range(least, -math.inf, most)}, not {shown(value)}")
        else:
            return value
        return max(least, 1)

    def flag(self, key: str, default: bool) -> bool:
        """``true`` or ``false``."""
        value = self.get(key, default)
        if isinstance(value, bool):
            return value
        self.say(f"{self.at(key)} must be true or false, not {shown(value)}")
        return default

    def word(self, key: str, choices: Sequence[str], default: str | None = None) -> str | None:
        """One of ``choices``; ``None`` after a mistake."""
        value = self.get(key, default)
        if isinstance(value, str) and value in choices:
            return value
        said = f"{self.place} needs {key}" if value is None else f"{self.at(key)} is {shown(value)}"
        self.say(f"{said}: one of {', '.join(choices)}")
        return None

    def numbers(self, key: str, *, longest: int) -> list[float] | None:
        """A list of 1 to ``longest`` numbers from 0; ``None`` after a mistake."""
        value = self.get(key)
        if value is None:
            self.say(f"{self.place} needs {key}")
        elif not isinstance(value, list | tuple) or not 1 <= len(value) <= longest:
            self.say(f"{self.at(key)} must be a list of 1 to {longest} numbers")
        else:
            bad = [v for v in value if isinstance(v, bool) or not isinstance(v, int | float) or not 0 <= v <= LARGEST]
            if not bad:
                return [float(v) for v in value]
            self.say(f"{self.at(key)} must hold numbers from 0 to {LARGEST:g}, not {shown(bad[0])}")
        return None

    def close(self) -> None:
        """Report every key that nobody asked for."""
        for key in self._data:
            if key not in self._known:
                self.say(f"{self.place} has no key {shown(key)}; its keys: {', '.join(self._known)}")


def _range(least: float, above: float, most: float) -> str:
    low = f"more than {above:g}" if above >= least else f"at least {least:g}"
    return low if most in (LARGEST, 2**62) else f"{low} and at most {most:g}"
