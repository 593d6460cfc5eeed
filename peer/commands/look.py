"""``susurrus status``, ``peers``, ``rounds``: look at a running peer.

Neighbours: ``peer.admin_client`` asks the peer.  Invariants: nothing is changed; ``--json`` prints the peer's answer
as it is.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from peer.admin_client import ask
from peer.commands.common import HomeOption, JsonOption, clock, home_path, print_json, shown, size, table

WatchOption = Annotated[bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")]
WATCH_PERIOD_S = 2.0
_CLEAR = "\x1b[H\x1b[2J"


def status(home: HomeOption = None, watch: WatchOption = False, as_json: JsonOption = False) -> None:
    """How the peer is doing: network, model, rounds."""
    _show(home_path(home), lambda path: ask(path, "/status").json(), _status_text, watch=watch, as_json=as_json)


def peers(home: HomeOption = None, watch: WatchOption = False, as_json: JsonOption = False) -> None:
    """Whom the peer knows."""

    def text(answer: Any) -> str:
        rows = _rows(answer, "peers")
        columns = {name: name.replace("_", " ") for name in ("peer", "state", "incarnation", "addresses", "kem")}
        return table(rows, columns) if rows else "it knows no other peer yet"

    _show(home_path(home), lambda path: ask(path, "/peers").json(), text, watch=watch, as_json=as_json)


def rounds(
    home: HomeOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 20,
    watch: WatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """The last rounds that the peer was root of."""
    columns = {
        "round": "round",
        "at": "finished",
        "took": "took",
        "kind": "kind",
        "age": "age",
        "cohort": "cohort",
        "published": "published",
        "loss": "loss",
        "accuracy": "accuracy",
        "reason": "why not",
    }

    def text(answer: Any) -> str:
        rows = [_round_row(row) for row in _rows(answer, "rounds")]
        return table(rows, columns) if rows else "it was root of no round yet"

    _show(home_path(home), lambda path: ask(path, "/rounds", limit=limit).json(), text, watch=watch, as_json=as_json)


def _show(path: Path, fetch: Callable[[Path], Any], text: Callable[[Any], str], *, watch: bool, as_json: bool) -> None:
    """Print what ``fetch`` returns, once or until interrupted."""
    while True:
        answer = fetch(path)
        if as_json:
            print_json(answer)
        else:
            if watch and sys.stdout.isatty():
                typer.echo(_CLEAR, nl=False)
            typer.echo(text(answer))
        if not watch:
            return
        time.sleep(WATCH_PERIOD_S)


def _rows(answer: Any, name: str) -> list[dict[str, Any]]:
    rows = answer.get(name, []) if isinstance(answer, dict) else answer
    return [row for row in rows if isinstance(row, dict)]


def _status_text(answer: Any) -> str:
    fields = dict(answer)
    for name in ("bytes_in", "bytes_out"):
        if isinstance(fields.get(name), int | float):
            fields[name] = size(fields[name])
    for name in ("uptime_seconds", "last_progress_seconds"):
        if isinstance(fields.get(name), int | float):
            fields[name] = f"{fields[name]:.0f}"
    width = max((len(name) for name in fields), default=0) + 2
    return "\n".join(f"{name.replace('_', ' '):<{width}}{shown(value)}" for name, value in fields.items())


def _round_row(row: dict[str, Any]) -> dict[str, Any]:
    started, finished = row.get("started"), row.get("finished")
    took = (
        f"{finished - started:.2f} s" if isinstance(started, int | float) and isinstance(finished, int | float) else "-"
    )
    return row | {
        "round": str(row.get("round", ""))[:8],
        "at": clock(finished),
        "took": took,
        "cohort": f"{row.get('cohort', '-')}/{row.get('planned', '-')}",
        "reason": row.get("reason") or None,
    }
