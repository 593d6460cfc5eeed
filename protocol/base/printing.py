"""Text that others have written, as it may be shown to people.

Neighbours: ``training.task`` refuses names and labels that are not printable, ``peer.cli`` and ``peer.commands`` escape
whatever else they show.  Invariants: what is printable stays as it is, in any script.
"""

_JOINERS = str.maketrans("", "", "\u200c\u200d")
"""Persian, the scripts of India and emoji are not written without them, and they move no cursor."""


def is_printable(text: str) -> bool:
    """Whether a terminal shows ``text`` on its line and does nothing else."""
    return text.translate(_JOINERS).isprintable()


def printable(text: str) -> str:
    """``text`` with escapes in the place of whatever is not printable."""
    return "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in text)
