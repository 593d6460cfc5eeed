"""What a model of churn is.

Neighbours: ``churn`` and ``phones`` are such models, the world asks them.
Invariants: see ``ChurnModel.sessions``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

Session = tuple[float, float]
"""Online from, online to, in seconds; the end is not part of it."""


class ChurnModel(ABC):
    """Who is online when."""

    __slots__ = ()

    @property
    def population(self) -> int | None:
        """How many peers the model knows; None: any number."""
        return None

    @abstractmethod
    def sessions(self, peer: int) -> Iterator[Session]:
        """The sessions of a peer in seconds since the world's start, in order and not touching, possibly without end.

        They depend on the model and the index alone.  ``IndexError`` for a peer beyond ``population``.
        """


_TOUCH_S = 1e-3
"""Between sessions that are this close, rounding decided."""


def joined(sessions: Iterable[Session]) -> Iterator[Session]:
    """The same sorted sessions, those that touch or overlap made one, those that are over before 0 left out."""
    begin, end = 0.0, 0.0
    for start, stop in sessions:
        if start <= end + _TOUCH_S and begin < end:
            end = max(end, stop)
        elif stop > 0 and stop > start:
            if end > begin:
                yield begin, end
            begin, end = max(start, 0.0), stop
    if end > begin:
        yield begin, end
