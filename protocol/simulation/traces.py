"""Traces: texts that say who was online when.  A user's own CSV, and the day files of the STUNner campaign.

Neighbours: ``churn`` plays a ``Trace``; files are read elsewhere, texts come in.
Invariants: a parser reads to the end and reports every mistake with its line (the first ``MAX_PROBLEMS`` in words);
the sessions of a trace are sorted, longer than nothing, and do not touch.
"""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO

from protocol.base.errors import ConfigurationError
from protocol.base.printing import shown
from protocol.simulation.sessions import Session

MAX_TRACE = 256 * 2**20
"""Characters of one text."""
MAX_LINES = 5_000_000
MAX_PROBLEMS = 100
"""Sentences about one text; what is beyond is counted."""
_FORMS = {
    None: "a number of seconds, nor an ISO 8601 time",
    False: "a number of seconds, as the first time of this text is",
    True: "an ISO 8601 time, as the first time of this text is",
}
HEADER = ["peer", "online_from", "online_to"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Who was online when."""

    peers: tuple[str, ...]
    """Names, in the order of their first mention; the index of a name is the index of a peer."""
    sessions: tuple[tuple[Session, ...], ...]
    """For each peer, (online from, online to) in seconds; since what instant, its maker says."""

    def shifted(self, seconds: float) -> "Trace":
        """The same trace with ``seconds`` added to every time."""
        return Trace(self.peers, tuple(tuple((a + seconds, b + seconds) for a, b in own) for own in self.sessions))

    @property
    def begin(self) -> float:
        """When the first session begins; 0 without any."""
        return min((own[0][0] for own in self.sessions if own), default=0.0)


class _Problems:
    """Sentences about one text, and the count of those left out."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._said: list[str] = []
        self._count = 0

    def say(self, sentence: str, line: int | None = None) -> None:
        self._count += 1
        if self._count <= MAX_PROBLEMS:
            self._said.append(f"{self.place}{'' if line is None else f' line {line}'}: {sentence}")

    def end(self) -> None:
        """Raise if anything was said."""
        if self._count > MAX_PROBLEMS:
            self._said.append(f"{self.place}: {self._count - MAX_PROBLEMS} more mistakes")
        if self._said:
            raise ConfigurationError(self._said)


def parse_csv(text: str, place: str) -> Trace:
    """A user's own trace: a header ``peer,online_from,online_to``, then one session a line, in any order.

    Times are either all numbers, in seconds since the world's start, or all ISO 8601 (without an offset: UTC), and then
    the earliest of them is the world's start.  Sessions of a peer that touch become one.
    Raises ``ConfigurationError`` with all mistakes; ``place`` names the text in them.
    """
    problems = _Problems(place)
    if not _bearable(text, problems):
        problems.end()
    rows = csv.reader(StringIO(text.removeprefix("\ufeff")), skipinitialspace=True)
    found: dict[str, list[tuple[float, float, int]]] = {}
    calendar: bool | None = None
    try:
        header = [cell.strip().lower() for cell in next(rows, [])]
        if header != HEADER:
            problems.say(f"the header must be {','.join(HEADER)}, not {shown(','.join(header))}", 1)
        for row in rows:
            line = rows.line_num
            if not row or row == [""]:
                continue
            if len(row) != 3 or not row[0].strip():
                problems.say(f"a line must be peer,online_from,online_to, not {shown(','.join(row))}", line)
                continue
            if calendar is None:
                calendar = _is_calendar(row[1].strip())
            own = found.setdefault(row[0].strip(), [])
            begin, end = (_time(cell.strip(), calendar, problems, line) for cell in row[1:])
            if begin is None or end is None:
                continue
            if end <= begin:
                problems.say(f"online_to {row[2].strip()} is not after online_from {row[1].strip()}", line)
            else:
                own.append((begin, end, line))
    except csv.Error as error:
        problems.say(f"is not CSV: {error}", rows.line_num)
    if not found:
        problems.say("there is no session")
    sessions = tuple(tuple(_joined(name, own, problems)) for name, own in found.items())
    problems.end()
    trace = Trace(tuple(found), sessions)
    return trace.shifted(-trace.begin) if calendar else trace


def _bearable(text: str, problems: _Problems) -> bool:
    if not text.strip():
        problems.say("is empty")
        return False
    lines = text.count("\n")
    if len(text) > MAX_TRACE or lines > MAX_LINES:
        problems.say(f"is too large: {len(text)} characters in {lines} lines; at most {MAX_TRACE} in {MAX_LINES}")
        return False
    return True


def _is_calendar(cell: str) -> bool | None:
    """Whether a file that begins with this time has calendar times; None: it is neither a time nor a number."""
    for calendar, reads in ((False, float), (True, datetime.fromisoformat)):
        try:
            reads(cell)
        except ValueError:
            continue
        return calendar
    return None


def _time(cell: str, calendar: bool | None, problems: _Problems, line: int) -> float | None:
    try:
        if calendar:
            moment = datetime.fromisoformat(cell)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        seconds = float(cell)
    except (ValueError, OverflowError):
        problems.say(f"{shown(cell)} is not {_FORMS[calendar]}", line)
        return None
    if 0 <= seconds < math.inf:
        return seconds
    problems.say(f"{cell} seconds is not a time after the world's start", line)
    return None


def _joined(name: str, own: list[tuple[float, float, int]], problems: _Problems) -> Iterable[Session]:
    """The sessions of one peer in order, those that touch made one."""
    joined: list[Session] = []
    before = 0
    for begin, end, line in sorted(own):
        if joined and begin < joined[-1][1]:
            problems.say(f"this session of {shown(name)} overlaps with that of line {before}", line)
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
        before = line
    return joined


def parse_stunner(text: str, place: str) -> tuple[Session, ...]:
    """One device's day of the STUNner campaign: lines ``epoch_ms;state;...`` in the order of time, without a header.

    State 1 is online, 0 offline, -1 the end of what is known; a device is online from a 1 to the next entry that is
    not 1.  A day that ends with 1 ends its last session there.  Columns after the second are not looked at.
    Returns (online from, online to) in seconds since the epoch.
    Raises ``ConfigurationError`` with all mistakes; ``place`` names the text in them.
    """
    problems = _Problems(place)
    if not _bearable(text, problems):
        problems.end()
    sessions: list[Session] = []
    since: float | None = None
    now: float | None = None
    for line, entry in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if not entry.strip():
            continue
        cells = [cell.strip() for cell in entry.split(";", 2)]
        if len(cells) < 2:
            problems.say(f"a line must be epoch_ms;state;..., not {shown(entry)}", line)
            continue
        if cells[1] not in ("1", "0", "-1"):
            problems.say(f"the state must be 1, 0 or -1, not {shown(cells[1])}", line)
        if not cells[0].isascii() or not cells[0].isdigit() or len(cells[0]) > 15:
            problems.say(f"{shown(cells[0])} is not a time in milliseconds since 1970", line)
            continue
        at = int(cells[0]) / 1000
        if now is not None and at < now:
            problems.say(f"the time goes back, from {now * 1000:.0f} to {cells[0]}", line)
            continue
        now = at
        if cells[1] == "1":
            since = at if since is None else since
        elif since is not None:
            _append(sessions, since, at)
            since = None
    if since is not None and now is not None:
        _append(sessions, since, now)
    problems.end()
    return tuple(sessions)


def _append(sessions: list[Session], begin: float, end: float) -> None:
    if sessions and sessions[-1][1] == begin:
        sessions[-1] = (sessions[-1][0], end)
    elif end > begin:
        sessions.append((begin, end))


def devices(texts: Sequence[tuple[str, str]]) -> Trace:
    """A trace of several devices, from (name, text) of each; its zero is the first instant at which one is online.

    Raises ``ConfigurationError`` with all mistakes of all texts.
    """
    problems: list[str] = []
    sessions: list[tuple[Session, ...]] = []
    for name, text in texts:
        try:
            sessions.append(parse_stunner(text, name))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    trace = Trace(tuple(name for name, _ in texts), tuple(sessions))
    return trace.shifted(-trace.begin)
