"""What several commands share: options, JSON, tables, sizes and times as people read them.

Neighbours: all other modules of ``commands``.  Invariants: nothing heavy is imported here.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from peer.home import default_home
from protocol.base.errors import ConfigurationError
from protocol.base.printing import printable

FAILED, VIOLATED = 1, 3
"""Exit codes of commands whose answer is the bad one: work that failed, a privacy guarantee that does not hold."""
MAX_SEED = 2**63 - 1
Made = TypeVar("Made")

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="The peer's home.  [default: $SUSURRUS_HOME or ~/.susurrus]", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def home_path(given: Path | None) -> Path:
    """The home that a command is about, absolute."""
    return (given.expanduser() if given else default_home()).absolute()


def print_json(document: Any) -> None:
    """``document`` on standard output; what is not a number becomes null, as JSON has no such numbers."""
    typer.echo(json.dumps(_finite(document), indent=2 if sys.stdout.isatty() else None, allow_nan=False))


def say(sentence: str) -> None:
    """A remark for people: standard error, so that standard output holds the result alone."""
    typer.echo(sentence, err=True)


def out_of_range(flag: str, value: float | None, least: float, most: float | None = None) -> list[str]:
    """What is wrong with a number; nothing is with one that was not given.  A missing ``most``: any finite number."""
    if value is None or (least <= value < math.inf and (most is None or value <= most)):
        return []
    return [f"{flag} must be {f'a number from {least} on' if most is None else f'from {least} to {most}'}, not {value}"]


def tried(problems: list[str], make: Callable[[], Made]) -> Made | None:
    """What it makes; or None, and its mistakes among the other ``problems``."""
    try:
        return make()
    except ConfigurationError as error:
        problems += error.problems
        return None


def warn_if_readable(secret: Path, what: str) -> None:
    """Say so if other users of this machine can read ``secret``, which holds ``what``."""
    try:
        open_to_others = secret.stat().st_mode & 0o077
    except OSError:
        return
    if open_to_others and secret.is_file():
        say(f"warning: others on this machine can read {secret}, which holds {what}; chmod 600 {secret}")


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Rows as aligned text; ``columns`` maps keys to headings, in order."""
    cells = [list(columns.values())] + [[shown(row.get(key)) for key in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def shown(value: object) -> str:
    """One value of a table."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}" if math.isfinite(value) else "-"
        case list() | tuple():
            return ", ".join(shown(item) for item in value) or "-"
        case _:
            return printable(str(value))  # a task's name, for one, is a stranger's


def clock(seconds: float | None) -> str:
    """Unix seconds as the local time of day."""
    return "-" if seconds is None else time.strftime("%H:%M:%S", time.localtime(seconds))


def size(count: float | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value
