"""Sentences with figures in them: templates of an experiment file, filled in from its results.

Neighbours: ``outline`` checks templates when a file is read, ``report`` fills them in.
Invariants: a template that parses can be filled in from any results; a figure that is not there reads "(no value)".

A placeholder is one of

    {mean COLUMN}  {min COLUMN}  {max COLUMN}  {count COLUMN}     over all rows
    {min COLUMN over KEY, KEY}  {max ...}                         the least or greatest mean for one value of the keys
    {argmin KEY, KEY of COLUMN}  {argmax ...}                     the keys' values where the mean is that
    {argfar KEY from VALUE of COLUMN}                             the key's value whose mean differs most from VALUE's

each with ``where KEY = VALUE and KEY < VALUE`` (``= != < <= > >=``; text in double quotes) and ``as percent`` or
``as whole`` behind it.  Braces are doubled to stand for themselves.
"""

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peer.laboratory.summary import Record, grouped, mean

NO_VALUE = "(no value)"

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[<>!]?=|[<>]|,|[^\s,<>=!"]+)')
_WHOLE, _BEST, _FAR = ("mean", "min", "max", "count"), ("argmin", "argmax"), "argfar"
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORMS = ("percent", "whole")


@dataclass(frozen=True, slots=True)
class Condition:
    """What rows must fulfil to count."""

    key: str
    compare: str
    value: Any

    def holds(self, record: Record) -> bool:
        """Whether this row counts; values of unlike types are never in any order."""
        try:
            return self.key in record and _COMPARE[self.compare](record[self.key], self.value)
        except TypeError:
            return False


@dataclass(frozen=True, slots=True)
class Figure:
    """One placeholder."""

    function: str
    column: str
    keys: tuple[str, ...]
    conditions: tuple[Condition, ...]
    form: str | None
    origin: Any = None
    """The value that ``argfar`` starts from."""

    def of(self, records: Sequence[Record]) -> str:
        """Its value in words."""
        chosen = [r for r in records if all(c.holds(r) for c in self.conditions)]
        values = [value for value in (number(r.get(self.column)) for r in chosen) if value is not None]
        if self.function == "count":
            return str(sum(r.get(self.column) is not None for r in chosen))
        if self.keys:
            means = [(key, mean([r.get(self.column) for r in rows])) for key, rows in grouped(chosen, self.keys)]
            known = [(key, value) for key, value in means if value is not None]
            if not known:
                return NO_VALUE
            if self.function == _FAR:
                here = dict(known).get((self.origin,))
                if here is None:
                    return NO_VALUE
                known = [(key, abs(value - here)) for key, value in known]
            pick = min if self.function.endswith("min") else max
            key, best = pick(known, key=lambda pair: pair[1])
            return self._told(best) if self.function in _WHOLE else ", ".join(self._told(k) for k in key)
        if not values:
            return NO_VALUE
        return self._told(mean(values) if self.function == "mean" else (min if self.function == "min" else max)(values))

    def _told(self, value: object) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.form == "percent":
                return f"{value:.1%}".replace("%", " %")
            return f"{value:.0f}" if self.form == "whole" else f"{value:.4g}"
        return str(value)


Template = tuple[str | Figure, ...]


def parse(text: str) -> Template:
    """The template that ``text`` is; ``ValueError`` says what is wrong with it."""
    parts: list[str | Figure] = []
    at = 0
    for found in _PART.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        if found[0] in ("{{", "}}"):
            parts.append(found[0][0])
        elif found[1] is None:
            raise ValueError(f"a single {found[0]} (double it, or close the placeholder)")
        else:
            parts.append(_figure(found[1]))
    return (*parts, text[at:])


def fill(template: Template, records: Sequence[Record]) -> str:
    """The sentence, with figures from these rows."""
    return "".join(part if isinstance(part, str) else part.of(records) for part in template)


def number(value: object) -> float | None:
    """What can be averaged: numbers, and yes and no as 1 and 0."""
    return float(value) if isinstance(value, int | float) else None


class _Tokens:
    def __init__(self, text: str) -> None:
        self.text, self._tokens = text, []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise self.wrong()
            self._tokens.append(found[1])
            at = found.end()
        self._tokens.reverse()

    def wrong(self) -> ValueError:
        return ValueError(f"{{{self.text}}} is none of the placeholders, such as {{mean accuracy where peers = 10}}")

    def next(self) -> str:
        if not self._tokens:
            raise self.wrong()
        return self._tokens.pop()

    def skip(self, *words: str) -> str | None:
        return self._tokens.pop() if self._tokens and self._tokens[-1] in words else None

    def names(self) -> tuple[str, ...]:
        names = [self.next()]
        while self.skip(","):
            names.append(self.next())
        return tuple(names)

    @property
    def over(self) -> bool:
        return not self._tokens


def _figure(text: str) -> Figure:
    tokens = _Tokens(text)
    function, keys, origin = tokens.next(), tuple[str, ...](), None
    if function == _FAR:
        keys = (tokens.next(),)
        if not tokens.skip("from"):
            raise tokens.wrong()
        origin = _value(tokens)
        if not tokens.skip("of"):
            raise tokens.wrong()
        column = tokens.next()
    elif function in _BEST:
        keys = tokens.names()
        if not tokens.skip("of"):
            raise tokens.wrong()
        column = tokens.next()
    elif function in _WHOLE:
        column = tokens.next()
        if function in ("min", "max") and tokens.skip("over"):
            keys = tokens.names()
    else:
        raise tokens.wrong()
    conditions = []
    if tokens.skip("where"):
        conditions.append(_condition(tokens))
        while tokens.skip("and"):
            conditions.append(_condition(tokens))
    wanted = tokens.skip("as")
    form = tokens.skip(*_FORMS) if wanted else None
    if not tokens.over or (wanted and form is None):
        raise tokens.wrong()
    return Figure(function, column, keys, tuple(conditions), form, origin)


def _condition(tokens: _Tokens) -> Condition:
    key, compare = tokens.next(), tokens.next()
    if compare not in _COMPARE:
        raise tokens.wrong()
    return Condition(key, compare, _value(tokens))


def _value(tokens: _Tokens) -> Any:
    """A number, or a text in double quotes."""
    try:
        return json.loads(tokens.next())
    except json.JSONDecodeError:
        raise tokens.wrong() from None
