"""What the report of an experiment shows: its plots, tables and paragraphs, as its file says.

Neighbours: ``experiment`` reads it as a part of the file, ``report`` and ``plots`` show it.
Invariants: frozen; columns are names that only the results can tell right or wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peer.laboratory import words
from peer.laboratory.kinds import Value
from protocol.base.printing import shown
from protocol.simulation.plain import Table

_KINDS = ("line", "points", "bars")
_LOG = ("", "x", "y", "xy")
Where = tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """``y`` against ``x``: one curve for each value of ``group`` and each ``y``, means over all other rows."""

    title: str
    x: str
    y: tuple[str, ...]
    group: tuple[str, ...]
    error: tuple[str, ...]
    """Columns with the standard errors of ``y``, each in its place; empty: those of the means shown."""
    where: Where
    log: str
    kind: str
    x_label: str
    y_label: str


@dataclass(frozen=True, slots=True)
class TableOutline:
    """Means of ``show`` (empty: all figures), one line for each value of ``by`` (empty: sweep, axes and text)."""

    title: str
    by: tuple[str, ...]
    show: tuple[str, ...]
    where: Where


@dataclass(frozen=True, slots=True)
class Paragraph:
    """What is claimed, what was found, where they differ, or plainly a text; each may be empty."""

    title: str
    parts: tuple[tuple[str, words.Template], ...]
    """``claim``, ``found``, ``differs`` and ``text``, those that are there."""


@dataclass(frozen=True, slots=True)
class Outline:
    """All that the report shows, in the file's order."""

    plots: tuple[Plot, ...] = ()
    tables: tuple[TableOutline, ...] = ()
    paragraphs: tuple[Paragraph, ...] = ()


def parse(document: Table) -> Outline:
    """Read ``plot``, ``table`` and ``text`` of a file; mistakes go where the others of ``document`` go."""
    return Outline(
        tuple(_plot(table) for table in _tables(document, "plot")),
        tuple(_table(table) for table in _tables(document, "table")),
        tuple(_paragraph(table) for table in _tables(document, "text")),
    )


def text(table: Table, key: str, default: str | None = None) -> str:
    """A text; without a default it has to be there."""
    value = table.get(key, default)
    if value is None:
        table.say(f"{table.place} needs {key}")
    elif not isinstance(value, str):
        table.say(f"{table.at(key)} must be a text, not {shown(value)}")
    else:
        return value
    return ""


def _tables(document: Table, key: str) -> list[Table]:
    found = document.get(key, [])
    if not isinstance(found, list):
        document.say(f"{document.at(key)} must be a list of tables: [[{key}]]")
        return []
    return [Table(data, f"{document.at(key)}[{i}]", document.problems) for i, data in enumerate(found, 1)]


def _plot(table: Table) -> Plot:
    x, y = text(table, "x"), _names(table, "y")
    if not y and "y" not in table:
        table.say(f"{table.place} needs y")
    error = _names(table, "error")
    if error and len(error) != len(y):
        table.say(f"{table.at('error')} must name as many columns as y: {len(y)}, not {len(error)}")
    plot = Plot(
        title=text(table, "title"),
        x=x,
        y=y,
        group=_names(table, "group"),
        error=error,
        where=_where(table),
        log=table.word("log", _LOG, "") or "",
        kind=table.word("kind", _KINDS, "line") or "line",
        x_label=text(table, "x_label", x),
        y_label=text(table, "y_label", ", ".join(y)),
    )
    table.close()
    return plot


def _table(table: Table) -> TableOutline:
    outline = TableOutline(text(table, "title"), _names(table, "by"), _names(table, "show"), _where(table))
    table.close()
    return outline


def _paragraph(table: Table) -> Paragraph:
    title, parts = text(table, "title", ""), []
    for name in ("claim", "found", "differs", "text"):
        template = text(table, name, "")
        try:
            if template:
                parts.append((name, words.parse(template)))
        except ValueError as error:
            table.say(f"{table.at(name)}: {error}")
    if table.ok and not parts:
        table.say(f"{table.place} needs claim, found, differs or text")
    table.close()
    return Paragraph(title, tuple(parts))


def _names(table: Table, key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name for name in names):
        table.say(f"{table.at(key)} must be the name of a column, or a list of names, not {shown(value)}")
        return ()
    return tuple(names)


def _where(table: Table) -> Where:
    value = table.get("where", {})
    if not isinstance(value, Mapping) or not all(isinstance(v, int | float | str) for v in value.values()):
        table.say(f"{table.at('where')} must be a table of columns and the values that they must have")
        return ()
    conditions: Mapping[str, Any] = value
    return tuple(conditions.items())
