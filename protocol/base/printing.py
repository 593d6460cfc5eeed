"""What others have written, as it may be shown to people: texts and dates.

Neighbours: ``training.task`` refuses names and labels that are not printable, ``peer.cli`` and ``peer.commands`` escape
whatever else they show.  Invariants: what is printable stays as it is, in any script; nothing here fails.
"""

from datetime import UTC, datetime

MAX_SHOWN = 60
_JOINERS = str.maketrans("", "", "\u200c\u200d")
"""Persian, the scripts of India and emoji are not written without them, and they move no cursor."""


def is_printable(text: str) -> bool:
    """Whether a terminal shows ``text`` on its line and does nothing else."""
    return text.translate(_JOINERS).isprintable()


def printable(text: str) -> str:
    """``text`` with escapes in the place of whatever is not printable."""
    return "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    """A value as it stands in a sentence, cut to a bearable length."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def date(seconds: float) -> str:
    """Unix seconds as a date."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "a date that no calendar has"
