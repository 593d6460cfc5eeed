"""Logs: plain or JSON lines on standard error, without secrets, without floods.

Neighbours: ``commands.run`` sets them up, everything logs through the standard ``logging``; the transport and the
driver log refusals through ``RefusalLog``.
Invariants: no join token, bearer token, seed or key that looks like one is ever written, tracebacks included; a
stranger cannot fill the disk: each source and kind is logged once a day, of so many a day, and counted always.
"""

import asyncio
import errno
import json
import logging
import math
import re
import sys
import time
import traceback
from collections import Counter
from datetime import UTC, datetime
from typing import Any, TextIO

from peer.transport.once import OncePer
from protocol.base.errors import Refusal, Refused

_log = logging.getLogger("susurrus.peer")
REDACTED = "[redacted]"
_SECRET = re.compile(r"susurrus-token-v\d+\.[A-Za-z0-9_-]+|[0-9a-fA-F]{64,}|(?<=Bearer )\S+")
"""Join tokens, anything of 32 bytes or more in hexadecimal (ids have 16), bearer tokens."""
FULL_EVERY_S = 60.0
"""Too many open files are told at most this often."""
_ADVICE = " (add --debug to see where)"


def redact(text: str) -> str:
    """``text`` without what looks like a secret."""
    return _SECRET.sub(REDACTED, text)


class _Formatter(logging.Formatter):
    """Knows whether to write tracebacks, or only what an exception says."""

    tracebacks = True

    def formatException(self, ei: Any) -> str:
        """The traceback, or one line in its place."""
        if self.tracebacks:
            return super().formatException(ei)
        return "".join(traceback.format_exception_only(ei[1])).strip().replace("\n", " ") + _ADVICE


class PlainFormatter(_Formatter):
    """``2025-01-31 12:00:00.123 INFO  driver: what happened``, local time."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without its traceback; a task's name is a stranger's, and must not begin a line or move a cursor."""
        record.message = "".join(c if c.isprintable() else "?" for c in record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """The line, redacted as a whole so that tracebacks are covered too."""
        record.exc_text = None  # what another formatter may have made of it
        return redact(super().format(record))


class JsonFormatter(_Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``message`` and, with a traceback, ``error``."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """UTC, with milliseconds."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def format(self, record: logging.LogRecord) -> str:
        """The line.  Redacted before JSON escapes can hide where a secret begins."""
        entry = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            entry["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


def set_up_logs(level: str, form: str, *, stream: TextIO | None = None, tracebacks: bool = False) -> None:
    """Send what is at least ``level`` (``debug`` .. ``error``) to ``stream`` (standard error) as ``plain`` or ``json``.

    ``tracebacks``: write them whole (``--debug``).  Replaces handlers set up before; other libraries' chatter is kept
    at warnings unless ``level`` is ``debug``.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    formatter = JsonFormatter() if form == "json" else PlainFormatter()
    formatter.tracebacks = tracebacks
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for noisy in ("asyncio", "aiohttp.access", "aiohttp.server"):
        logging.getLogger(noisy).setLevel("DEBUG" if level == "debug" else "WARNING")


class LoopErrors:
    """An event loop's exception handler under which too many open files are one sentence a minute.

    asyncio has a traceback for each connection that it cannot accept, thousands in a second.  Everything else is told
    as it tells it.
    """

    def __init__(self) -> None:
        self._told_at = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the loop calls."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
            return
        now = time.monotonic()
        if now - self._told_at >= FULL_EVERY_S:
            self._told_at = now
            _log.error("too many open files: nobody is let in until some are closed; raise the limit (ulimit -n)")


def where(error: BaseException) -> str:
    """An exception as a log may hold it, its type and the line that raised it: its text may quote a record."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__ + (f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else "")


MENDED = (Refusal.UNKNOWN_SENDER, Refusal.UNKNOWN_EPOCH, Refusal.REPLAYED)
"""What an honest sender makes good by itself (section 7 of SPEC.md), after a restart or a lost answer: no warning."""


class RefusalLog:
    """Logs what was refused from outside: once a day for each source (IPv6: each /64) and reason, counted always."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._once = OncePer()

    @property
    def counts(self) -> Counter[str]:
        """Refusals so far by the name of their ``Refusal`` member."""
        return self._once.counts

    def refused(self, source: str, refusal: Refused) -> None:
        """``source``: the IP address that the bytes came from."""
        if self._once.first(source, refusal.reason.name):
            level = logging.INFO if refusal.reason in MENDED else logging.WARNING
            self._logger.log(level, "refused a message from %s: %s (further ones are only counted)", source, refusal)
